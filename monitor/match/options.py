"""What the configuration says of matching."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """When a run is believed, and when it is over."""

    provisional_nats: float
    confirmed_nats: float
    #: A confirmed airing lasts at least so long.
    min_length_s: float = 2.0
    #: Heard audio without support that ends an airing.
    silence_s: float = 10.0
    #: Time without support, heard or not, that ends an airing.
    max_gap_s: float = 30.0
    #: Tempo is sought up to so much faster, and as many times slower.
    tempo_max_ratio: float = 0.45
    #: Whether windows are read at other pitches too.
    any_pitch: bool = True
    look_back_s: float = 30.0
