from __future__ import annotations

import pytest

from monitor.audio.probe import AudioInfo, audio_info

ICECAST = """\
[info] Input #0, mp3, from 'http://h/x':
[info]   Duration: N/A, start: 0.000000, bitrate: 128 kb/s
[info]   Stream #0:0: Audio: mp3 (mp3float), 44100 Hz, stereo, fltp, 128 kb/s, start 0.025057
[info] Stream mapping:
[info]   Stream #0:0 -> #0:0 (mp3 (mp3float) -> pcm_s16le (native))
[info] Output #0, s16le, to 'pipe:1':
[info]   Stream #0:0: Audio: pcm_s16le, 8000 Hz, mono, s16, 128 kb/s"""

FILM = """\
[mov,mp4,m4a,3gp,3g2,mj2 @ 0x1] [warning] Estimating duration from bitrate, this may be inaccurate
[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:x':
[info]   Duration: 01:02:03.50, start: 0.000000, bitrate: 18 kb/s
[info]   Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p, 64x64, 12 kb/s, 25 fps
[info]   Stream #0:1[0x2](eng): Audio: ac3 (ac-3 / 0x332D6361), 48000 Hz, 5.1(side), fltp, 384 kb/s (default)"""


@pytest.mark.parametrize(
    ("lines", "info"),
    [
        (
            ICECAST,
            AudioInfo(
                container="mp3", codec="mp3", sample_rate_hz=44100, channels=2, bitrate_kbps=128, duration_s=None,
                duration_guessed=False,
            ),
        ),
        (
            FILM,
            AudioInfo(
                container="mov,mp4,m4a,3gp,3g2,mj2", codec="ac3", sample_rate_hz=48000, channels=6, bitrate_kbps=384,
                duration_s=3723.5, duration_guessed=True,
            ),
        ),
        ("[error] http://h/x: Connection refused", None),
    ],
)  # fmt: skip
def test_what_ffmpeg_says_of_its_input(lines, info):
    assert audio_info(lines.splitlines()) == info
