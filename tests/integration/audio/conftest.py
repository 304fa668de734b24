"""Both ffmpegs, and sound made by them: no test here may pass on one version only."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest

from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg


@pytest.fixture(scope="session", params=["system", "wheel"])
def program(request: pytest.FixtureRequest) -> FfmpegProgram:
    """The system's ffmpeg, then the wheel's."""
    if request.param == "wheel":
        return find_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe())
    system = shutil.which("ffmpeg")
    if system is None:
        missing("no system ffmpeg (apt install ffmpeg)")
    return find_ffmpeg(system)


def missing(part: str) -> None:
    """Skips by name on a user's machine, fails where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(part)
    pytest.skip(part)


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make(name, *ffmpeg arguments)`: a file made by the wheel's ffmpeg, once per session."""
    directory = tmp_path_factory.mktemp("sound")
    executable = imageio_ffmpeg.get_ffmpeg_exe()

    def made(name: str, *arguments: str) -> Path:
        path = directory / name
        if not path.exists():
            subprocess.run([executable, "-nostdin", "-v", "error", *arguments, str(path)], check=True)
        return path

    return made


@pytest.fixture(scope="session")
def music(make: Callable[..., Path]) -> Path:
    """60 s of changing chords over noise, stereo: nothing repeats within it."""
    melody = "0.3*sin(2*PI*(200+37*floor(t))*t)|0.3*sin(2*PI*(150+53*floor(t*1.7))*t)"
    return make(
        "music.wav", "-f", "lavfi", "-i", f"aevalsrc={melody}:d=60:s=44100",
        "-f", "lavfi", "-i", "anoisesrc=d=60:c=pink:a=0.1:seed=1:r=44100", "-filter_complex", "amix", "-ac", "2",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A server's certificate, self-signed."""

    certificate: Path
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    if shutil.which("openssl") is None:
        missing("no openssl (apt install openssl)")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere.example",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return Identity(certificate=certificate, context=context)


def children() -> set[int]:
    """Live or dead children of this process that have not been reaped, whichever thread started them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # What stands before the parenthesis is the command's name, which may hold anything.
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid():
                    found.add(int(entry.name))
    return found


@pytest.fixture
def no_child_left() -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def check() -> Iterator[None]:
        before = children()
        yield
        assert children() <= before

    return check


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
