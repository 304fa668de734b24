"""A real icecast2 on loopback, and sources that feed it as a studio does: PCM in real time through an encoder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.station import PCM_INPUT, Format, Playout
from monitor.errors import MissingPartError, MonitorError

_START_TIMEOUT_S = 20.0
_CONFIG = """<icecast>
  <limits><clients>100</clients><sources>20</sources><burst-size>65535</burst-size></limits>
  <authentication>
    <source-password>{password}</source-password>
    <admin-user>admin</admin-user><admin-password>{password}</admin-password>
  </authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <paths>
    <basedir>{base}</basedir><logdir>{logs}</logdir>
    <webroot>{base}/web</webroot><adminroot>{base}/admin</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""


class Mount(Playout):
    """One mount point with its encoder."""

    def __init__(self, *, name: str, audio: Format, ffmpeg: FfmpegProgram) -> None:
        super().__init__()
        self.name = name
        self.format = audio
        self.path = f"/{name}.{audio.suffix}"
        self._ffmpeg = ffmpeg

    async def broadcast(self, *, port: int, password: str) -> None:
        """Feed the server until cancelled; raises MonitorError if the encoder ends."""
        process = await asyncio.create_subprocess_exec(
            self._ffmpeg.path,
            *PCM_INPUT,
            *self.format.encoding,
            *("-content_type", self.format.content_type, "-ice_name", self.name),
            f"icecast://source:{password}@127.0.0.1:{port}{self.path}",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin and process.stderr
        try:
            await self.feed(process.stdin)
            said = (await process.stderr.read()).decode(errors="replace").strip().replace(password, "***")
            raise MonitorError(f"the source of {self.path} ended: {said.rpartition(chr(10))[2]}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def program() -> str:
    """The path of icecast2. Raises MissingPartError if it is not installed."""
    path = shutil.which("icecast2") or shutil.which("icecast")
    if path is None:
        raise MissingPartError(
            "this needs icecast2; install it (Debian: apt-get install --no-install-recommends icecast2)"
        )
    return path


@contextlib.asynccontextmanager
async def on_air(mounts: Sequence[Mount], *, port: int) -> AsyncIterator[str]:
    """The server runs and every mount is being fed; yields the server's address."""
    password = secrets.token_urlsafe(16)
    logs = Path(tempfile.mkdtemp(prefix="monitor-icecast-"))
    process = None
    try:
        config = logs / "icecast.xml"
        config.write_text(
            _CONFIG.format(password=password, port=port, base="/usr/share/icecast2", logs=logs, owner=_owner(logs))
        )
        process = await asyncio.create_subprocess_exec(
            program(),
            *("-c", str(config)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        address = f"http://127.0.0.1:{port}"
        await _until(lambda client: client.get(f"{address}/status-json.xsl"), process, logs)
        async with asyncio.TaskGroup() as tasks:
            sources = [tasks.create_task(mount.broadcast(port=port, password=password)) for mount in mounts]
            try:
                for mount in mounts:
                    await _until(lambda client, mount=mount: _head(client, address + mount.path), process, logs)
                yield address
            finally:
                for source in sources:
                    source.cancel()
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        shutil.rmtree(logs, ignore_errors=True)


def _owner(logs: Path) -> str:
    """icecast2 refuses to run as root: it changes to an unprivileged user, who must be able to write its logs."""
    if os.geteuid() != 0:
        return ""
    for name in ("icecast2", "icecast", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(logs, user.pw_uid, user.pw_gid)
            import grp

            group = grp.getgrgid(user.pw_gid).gr_name
            return f"<changeowner><user>{name}</user><group>{group}</group></changeowner>"
    raise MonitorError("icecast2 needs an unprivileged user, and this machine has neither icecast2 nor nobody")


async def _head(client: httpx.AsyncClient, url: str) -> httpx.Response:
    async with client.stream("GET", url) as response:
        return response


async def _until(ask: object, process: asyncio.subprocess.Process, logs: Path) -> None:
    give_up_s = time.monotonic() + _START_TIMEOUT_S
    async with httpx.AsyncClient(timeout=5) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await ask(client)).status_code == httpx.codes.OK:  # type: ignore[operator]
                    return
            if process.returncode is not None or time.monotonic() > give_up_s:
                log = logs / "error.log"
                said = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else ["nothing"]
                raise MonitorError(f"icecast2 does not serve; its log says: {' / '.join(said)}")
            await asyncio.sleep(0.2)
