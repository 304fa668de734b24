"""An address tried before it is added: can it be reached, what does it send, how loud is it?"""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import Any

import numpy as np

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.audio.probe import audio_info
from monitor.audio.source import FfmpegSource, SourceOptions
from monitor.errors import SourceError

_LISTEN_S = 5.0
_RATE_HZ = 8000
#: The whole trial, whatever the source does.
_LONGEST_S = 40.0


async def tried(url: str, *, ffmpeg: FfmpegProgram, options: SourceOptions) -> dict[str, Any]:
    """What is heard at the address in about five seconds, or why nothing is, as `TrialAnswer` says it."""
    source = FfmpegSource(url=url, sample_rate_hz=_RATE_HZ, ffmpeg=ffmpeg, options=options)
    power, samples = 0.0, 0
    reason, detail = None, ""
    try:
        async with asyncio.timeout(_LONGEST_S), aclosing(source.listen()) as chunks:
            async for chunk in chunks:
                power += float(np.dot(chunk.samples, chunk.samples))
                samples += len(chunk.samples)
                if samples >= _LISTEN_S * _RATE_HZ:
                    break
    except SourceError as error:
        reason, detail = error.reason.value, str(error)
    except TimeoutError:
        reason, detail = "timeout", f"the address sends less than {_LISTEN_S:.0f} s of sound in {_LONGEST_S:.0f} s"
    info = audio_info(source.opening) if samples else None
    return {
        "reachable": samples > 0,
        "reason": reason,
        "detail": detail,
        "codec": info.codec if info else None,
        "sample_rate_hz": info.sample_rate_hz if info else None,
        "channels": info.channels if info else None,
        "bit_rate": info.bitrate_kbps * 1000 if info and info.bitrate_kbps else None,
        "level_dbfs": 10 * math.log10(power / samples) if power > 0 else None,
        "seconds": samples / _RATE_HZ,
    }
