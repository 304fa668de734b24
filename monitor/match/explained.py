"""What a run says beyond what others that sound at the same time say already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.match.fit import Fit
from monitor.match.line import Floats
from monitor.match.run import Run

#: Another recording this much nearer explains a window: this one cannot be sounding beside it.
_EXPLAINED_MARGIN = 0.25
#: Versions of one piece are so much alike.
_LEAST_VERSION = 0.5
#: Windows of two references this much less alike than one of them is to the stream are still versions of one piece:
#: they are compared up to half a reference's hop off.
_VERSION_MARGIN = 0.15
#: Two sounds at once mask each other: if both references are as near as this to a window, they are the same music.
_VERSION_SIMILARITY = 0.65


def unexplained(run: Run, fit: Fit, sounding: Sequence[tuple[Run, Fit]]) -> tuple[Floats, NDArray[np.bool_]]:
    """The run's evidence without the windows that another run explains, and which those are.

    A second line through the same reference (a loop, a chorus) earns only what it says more than the first.
    Another reference earns nothing where it is no nearer to the stream than to one that is nearer in all: it is a
    version of the same piece, and only the nearest version is sounding. Nor does a candidate where the other is
    so near that nothing else can be sounding.
    """
    nats, explained = fit.nats.copy(), np.zeros(len(fit.nats), dtype=np.bool_)
    run.outshone = False
    for other, theirs in sounding:
        if other is run:
            continue
        size = min(len(nats), len(theirs.nats))
        starts, mine, nearer = fit.window_starts_s[-size:], fit.similarities[-size:], theirs.similarities[-size:]
        within = (starts >= other.first_s) & (starts <= other.last_s)
        tail = nats[-size:]
        if other.reference_id == run.reference_id:
            if run.state is None:
                tail[within] = np.minimum(tail, tail - theirs.nats[-size:])[within]
                explained[-size:] |= within
            continue
        alike = np.einsum("wd,wd->w", fit.vectors[-size:], theirs.vectors[-size:])
        both = within & ~np.isnan(mine) & ~np.isnan(nearer)
        # Of an airing that drowns any window is as like as its own: only what is alike indeed is a version of it.
        least = mine - _VERSION_MARGIN if run.spot is None else np.fmax(mine - _VERSION_MARGIN, _LEAST_VERSION)
        versions = (alike > least) | (np.minimum(mine, nearer) > _VERSION_SIMILARITY)
        beaten = both & versions & bool(nearer[both].sum() > mine[both].sum())
        run.outshone |= bool(beaten.any())
        if run.state is None:
            beaten |= within & (nearer > mine + _EXPLAINED_MARGIN)
        tail[beaten] = np.minimum(tail[beaten], 0.0)
        explained[-size:] |= beaten
    return nats, explained
