from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from monitor.audio.decode import TruncatedError, decode_file
from monitor.errors import InputError

RATE = 8000

FORMATS = {
    "x.mp3": ("-c:a", "libmp3lame", "-b:a", "128k"),
    "x.m4a": ("-c:a", "aac"),
    "x.opus": ("-c:a", "libopus"),
    "x.ogg": ("-c:a", "libvorbis"),
    "x.flac": (),
    "x.wav": (),
    "x.ac3": (),
    "x.aac": (),
    "x.mka": ("-c:a", "libopus"),
    "x.aiff": (),
}


@pytest.fixture
def encoded(make, music):
    def encode(name: str, *arguments: str) -> Path:
        return make(name, "-i", str(music), *(arguments or FORMATS[name]))

    return encode


async def decoded(path: Path, program, **options) -> list[np.ndarray]:
    options = {"sample_rate_hz": RATE, "ffmpeg": program, **options}
    async with aclosing(decode_file(path, **options)) as blocks:
        return [block async for block in blocks]


async def refusal(path: Path, program, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        await decoded(path, program, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_gives_the_same_sound(program, encoded, music, name):
    original = np.concatenate(await decoded(music, program))
    found = np.concatenate(await decoded(encoded(name), program))
    assert found.dtype == np.float32
    assert abs(found.size - 60 * RATE) < 0.1 * RATE
    assert np.abs(found).max() <= 1.0
    # The encoders' delay is a few milliseconds to some ten: look for it.
    pattern, field = original[10 * RATE : 14 * RATE], found[10 * RATE - 600 : 14 * RATE + 600]
    shift = int(np.argmax(np.correlate(field, pattern, mode="valid")))
    assert np.corrcoef(pattern, field[shift : shift + pattern.size])[0, 1] > 0.9


async def test_blocks_bounds_and_spans(program, encoded):
    path = encoded("x.flac")
    whole = await decoded(path, program, block_s=7.0)
    assert [block.size for block in whole] == [7 * RATE] * 8 + [4 * RATE]
    part = np.concatenate(await decoded(path, program, start_s=20.0, max_duration_s=5.0))
    assert part.size == 5 * RATE
    assert np.abs(part - np.concatenate(whole)[20 * RATE : 25 * RATE])[100:-100].max() < 1e-3


async def test_names_that_look_like_something_else(program, encoded, tmp_path):
    for name in ("-i.mp3", "http:x.mp3", "we ird'%d\".mp3", "a\nb.mp3"):
        path = tmp_path / name
        path.write_bytes(encoded("x.mp3").read_bytes())
        assert sum(block.size for block in await decoded(path, program)) > 59 * RATE


async def test_leaving_early_leaves_no_process(program, encoded, no_child_left):
    with no_child_left():
        async with aclosing(decode_file(encoded("x.flac"), sample_rate_hz=RATE, ffmpeg=program, block_s=1.0)) as blocks:
            async for _ in blocks:
                break


async def test_missing_directory_and_empty(program, tmp_path):
    assert str(await refusal(tmp_path / "no.mp3", program)).endswith("no.mp3 does not exist; correct the path")
    assert "is not a regular file" in str(await refusal(tmp_path, program))
    os.mkfifo(tmp_path / "pipe.mp3")
    assert "is not a regular file" in str(await refusal(tmp_path / "pipe.mp3", program))
    (tmp_path / "zero.mp3").touch()
    assert "zero.mp3 is empty (0 bytes); copy it again" in str(await refusal(tmp_path / "zero.mp3", program))
    (tmp_path / "zeros.mp3").write_bytes(bytes(100_000))
    assert "holds only zero bytes" in str(await refusal(tmp_path / "zeros.mp3", program))


READER = """
import asyncio, sys
from pathlib import Path
from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram

async def main():
    program = FfmpegProgram(path=sys.argv[1], version="")
    async for _ in decode_file(Path(sys.argv[2]), sample_rate_hz=8000, ffmpeg=program):
        pass

asyncio.run(main())
"""
#: Root without the right to read what its permissions deny it (capabilities(7)).
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


def test_a_file_that_may_not_be_read(program, tmp_path):
    as_others = AS_OTHERS if os.geteuid() == 0 else []
    if as_others and (shutil.which("setpriv") is None or subprocess.run([*as_others, "true"], check=False).returncode):
        pytest.skip("root may not give up its rights here")
    path = tmp_path / "x.mp3"
    path.write_bytes(b"x")
    path.chmod(0)
    done = subprocess.run(
        [*as_others, sys.executable, "-c", READER, program.path, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert said == f"monitor.errors.InputError: {path} cannot be read: Permission denied"


async def test_text_noise_and_playlists(program, tmp_path, encoded):
    (tmp_path / "text.mp3").write_text("Dear all,\nthis is a letter about naïve façades.\n" * 400)
    assert "is text, not audio" in str(await refusal(tmp_path / "text.mp3", program))
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(5).bytes(100_000))
    assert "is not audio that ffmpeg can decode" in str(await refusal(tmp_path / "noise.mp3", program))
    for number, text in enumerate(
        (f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{encoded('x.mp3')}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0")
    ):
        (tmp_path / f"{number}.mp3").write_text(text)
        assert "is a playlist, not a recording" in str(await refusal(tmp_path / f"{number}.mp3", program))


async def test_no_audio_track(program, make):
    film = make("film.mp4", "-f", "lavfi", "-i", "testsrc=d=2:s=64x64", "-an")
    assert str(await refusal(film, program)).endswith("film.mp4 has no audio track; give a file with sound")


async def test_copy_protection(program, make, music, tmp_path):
    key = ("-encryption_key", "00112233445566778899aabbccddeeff", "-encryption_kid", "112233445566778899aabbccddeeff00")
    common = make("cenc.mp4", "-i", str(music), "-c:a", "aac", "-encryption_scheme", "cenc-aes-ctr", *key)
    assert "is copy-protected (DRM)" in str(await refusal(common, program))
    fairplay = tmp_path / "fairplay.m4p"
    plain = make("plain.m4a", "-i", str(music), "-c:a", "aac").read_bytes()
    fairplay.write_bytes(plain.replace(b"mp4a", b"drms"))
    assert "is copy-protected (DRM)" in str(await refusal(fairplay, program))


@pytest.mark.parametrize("name", ["x.mp3", "x.flac", "x.wav", "x.mka", "fast.m4a"])
async def test_cut_off_gives_what_is_there_and_says_so(program, encoded, tmp_path, name):
    arguments = ("-c:a", "aac", "-movflags", "+faststart") if name == "fast.m4a" else ()
    data = encoded(name, *arguments).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 3])
    found = 0
    with pytest.raises(TruncatedError) as caught:
        async for block in decode_file(path, sample_rate_hz=RATE, ffmpeg=program, block_s=1.0):
            found += block.size
    assert 15 * RATE < found < 25 * RATE
    assert caught.value.decoded_s == found / RATE
    assert "is cut off" in str(caught.value)


async def test_an_index_that_is_missing_leaves_nothing(program, encoded, tmp_path):
    path = tmp_path / "cut.m4a"
    data = encoded("x.m4a").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    error = await refusal(path, program)
    assert isinstance(error, TruncatedError)
    assert "its index (moov) is missing" in str(error)


async def test_a_start_after_the_end(program, encoded):
    assert "ends before 100.0 s" in str(await refusal(encoded("x.flac"), program, start_s=100.0))


async def test_three_hours_in_bounded_memory(program, make):
    minute = make("minute.mp3", "-f", "lavfi", "-i", "sine=440:r=8000:d=60", "-b:a", "8k")
    path = make("long.mp3", "-stream_loop", "179", "-i", str(minute), "-c", "copy")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    samples = 0
    async for block in decode_file(path, sample_rate_hz=RATE, ffmpeg=program):
        assert block.size <= 30 * RATE
        samples += block.size
    assert abs(samples - 10_800 * RATE) < 60 * RATE
    # The whole file would be 345 MB.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 40
