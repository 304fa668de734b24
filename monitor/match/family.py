"""The family of lines among which a run's own is sought anew at each window."""

from __future__ import annotations

import functools

import numpy as np

from monitor.match.line import NEAR_TEMPO_RATIO, Floats, tempo_bounds
from monitor.match.run import Run

#: A run that is shorter is young: its few windows do not know its tempo yet.
_YOUNG_S = 8.0
#: A young run's tempo is sought in such steps: over ten seconds they differ by less than half a window.
_TEMPO_STEP_RATIO = 0.015
_FAR_STEP_RATIO = 0.03
#: An old run's tempo may creep by so much.
_CREEP_RATIO = 0.004
#: Each tempo is tried so far off the run's line.
_SHIFTS_HOPS = np.array([0.0, -0.5, 0.5, -1.0, 1.0])


def lines_around(run: Run, now_s: float, *, hop_s: float, tempo_max_ratio: float) -> tuple[Floats, Floats]:
    """Origins and tempi, (L,) each, of the lines near the run's: a young run is sought over all tempi, an old one
    followed closely, and one that frames know better than windows stays where they found it.

    Of lines that are equally good the first is to be taken: the nearest to the run's tempo.
    """
    pivot_s = (run.last_s + now_s) / 2
    own = run.line.tempo_ratio
    if run.is_led_by_frames:
        tempi, shifts_s = np.array([own]), np.zeros(1)
    else:
        young = run.last_s - run.first_s < _YOUNG_S
        tempi = np.append(_tempi(tempo_max_ratio), own) if young else own + np.array([0.0, -_CREEP_RATIO, _CREEP_RATIO])
        tempi = tempi[np.argsort(np.abs(tempi - own), kind="stable")]
        shifts_s = _SHIFTS_HOPS * hop_s
    reference_s = run.line.reference_at(pivot_s) + shifts_s
    return (pivot_s - reference_s / tempi[:, np.newaxis]).ravel(), tempi.repeat(len(shifts_s))


@functools.cache
def _tempi(most_ratio: float) -> Floats:
    """The tempi to try for a young run, fine near the recording's own."""
    slowest, fastest = tempo_bounds(most_ratio)
    near = min(most_ratio, NEAR_TEMPO_RATIO)
    fine = 1 + np.arange(-near, near + 1e-9, _TEMPO_STEP_RATIO)
    faster = np.arange(1 + NEAR_TEMPO_RATIO + _FAR_STEP_RATIO, fastest + 1e-9, _FAR_STEP_RATIO)
    slower = np.arange(1 - NEAR_TEMPO_RATIO - _FAR_STEP_RATIO, slowest - 1e-9, -_FAR_STEP_RATIO)
    return np.asarray(np.concatenate([fine, faster, slower]), dtype=np.float64)
