"""What changed between two configurations: what a running daemon can take over, and what wants a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.config.schema import Config, Section, Stream, Webhook

_LIVE = ("streams", "match", "webhooks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Diff:
    """Names of streams and webhooks, and dotted keys, that differ."""

    streams_added: tuple[str, ...] = ()
    streams_removed: tuple[str, ...] = ()
    streams_changed: tuple[str, ...] = ()
    webhooks_added: tuple[str, ...] = ()
    webhooks_removed: tuple[str, ...] = ()
    webhooks_changed: tuple[str, ...] = ()
    #: Keys below `match`, such as `match.max_gap_s`.
    match_changed: tuple[str, ...] = ()
    #: Keys that a running daemon cannot change, such as `http.port`: the reload is refused whole.
    refused: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if nothing differs."""
        return self == Diff()


def diff(old: Config, new: Config) -> Diff:
    """What a reload from `old` to `new` would change. The order of streams and of webhooks does not matter."""
    streams_added, streams_removed, streams_changed = _entries(old.streams, new.streams)
    webhooks_added, webhooks_removed, webhooks_changed = _entries(old.webhooks, new.webhooks)
    refused: list[str] = []
    for name in Config.model_fields:
        if name not in _LIVE:
            refused += _changed(name, getattr(old, name), getattr(new, name))
    return Diff(
        streams_added=streams_added,
        streams_removed=streams_removed,
        streams_changed=streams_changed,
        webhooks_added=webhooks_added,
        webhooks_removed=webhooks_removed,
        webhooks_changed=webhooks_changed,
        match_changed=tuple(_changed("match", old.match, new.match)),
        refused=tuple(refused),
    )


def _entries(
    old: Sequence[Stream] | Sequence[Webhook], new: Sequence[Stream] | Sequence[Webhook]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    before = {entry.name: entry for entry in old}
    after = {entry.name: entry for entry in new}
    added = tuple(name for name in after if name not in before)
    removed = tuple(name for name in before if name not in after)
    return added, removed, tuple(name for name in after if name in before and after[name] != before[name])


def _changed(name: str, old: object, new: object) -> list[str]:
    if old == new:
        return []
    if isinstance(old, Section) and isinstance(new, Section):
        keys: list[str] = []
        for field in type(old).model_fields:
            keys += _changed(f"{name}.{field}", getattr(old, field), getattr(new, field))
        return keys
    return [name]
