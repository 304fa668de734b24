"""Every Prometheus metric of the daemon, in the order of the flow, on an injected registry.

Labels are only stream, endpoint, reason, queue and state. A stream's series exist from the moment it is added, for
every reason, so that rates exist before the first failure; they go when it goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics

from monitor.errors import CanaryReason, DeliveryReason, DropReason, ServerReason, StreamReason
from monitor.types import EndpointState, MatchState, StreamAlarm, StreamState

_DURATION_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_DELAY_BUCKETS_S = (0.5, 1, 2, 3, 5, 8, 15, 30, 60)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


# A second series beside each counter, which no rule or dashboard reads, would double what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one daemon; also what the deliverer counts with."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.build = Info("monitor_build", "Version of the daemon and its models.", registry=registry)
        self.reload_successful = Gauge(
            "monitor_config_last_reload_successful", "1 if the last reload was taken over.", registry=registry
        )
        self.reload_timestamp = Gauge(
            "monitor_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken over.",
            registry=registry,
        )
        self.clock_ahead = Gauge(
            "monitor_clock_ahead_seconds",
            "Stream time less the machine's clock; not near 0 after that was set back.",
            registry=registry,
        )
        self.clock_steps = Gauge(
            "monitor_clock_steps", "Times that stream time followed a forward leap of the clock.", registry=registry
        )
        stream = ("stream",)
        self.stream_up = Gauge(
            "monitor_stream_up", "1 while the stream is heard, silence included.", stream, registry=registry
        )
        self.stream_state = Gauge(
            "monitor_stream_state", "1 for the state that holds.", ("stream", "state"), registry=registry
        )
        self.stream_state_changes = Counter(
            "monitor_stream_state_changes", "Times that the state began.", ("stream", "state"), registry=registry
        )
        self.stream_alarm = Gauge(
            "monitor_stream_alarm", "1 while the alarm holds.", ("stream", "alarm"), registry=registry
        )
        self.stream_blips = Counter(
            "monitor_stream_blips", "Interruptions too short for an alarm.", stream, registry=registry
        )
        self.stream_reanchored = Counter(
            "monitor_stream_reanchored",
            "Times that stream time was anchored anew while connected.",
            stream,
            registry=registry,
        )
        self.stream_restarts = Counter(
            "monitor_stream_restarts", "Times that listening failed.", ("stream", "reason"), registry=registry
        )
        self.stream_audio_seconds = Counter(
            "monitor_stream_audio_seconds", "Audio received; its rate is 1 when healthy.", stream, registry=registry
        )
        self.stream_covered_seconds = Counter(
            "monitor_stream_covered_seconds",
            "Stream time heard, what was sent twice counted once; with the gaps it makes up all the time.",
            stream,
            registry=registry,
        )
        self.stream_gap_seconds = Counter(
            "monitor_stream_gap_seconds",
            "Stream time not heard, counted when it is known.",
            ("stream", "reason"),
            registry=registry,
        )
        self.windows = Counter("monitor_windows", "Windows cut from the stream.", stream, registry=registry)
        self.windows_dropped = Counter(
            "monitor_windows_dropped", "Windows thrown away unsearched.", ("stream", "reason"), registry=registry
        )
        self.queue_length = Gauge("monitor_queue_length", "What waits in a queue.", ("queue",), registry=registry)
        self.queue_capacity = Gauge("monitor_queue_capacity", "A queue's bound.", ("queue",), registry=registry)
        self.embed_batch_windows = Histogram(
            "monitor_embed_batch_windows", "Windows embedded at once.", buckets=_BATCH_BUCKETS, registry=registry
        )
        self.embed_duration = Histogram(
            "monitor_embed_duration_seconds", "Time of one batch.", buckets=_DURATION_BUCKETS_S, registry=registry
        )
        self.search_duration = Histogram(
            "monitor_search_duration_seconds", "Time of one search.", buckets=_DURATION_BUCKETS_S, registry=registry
        )
        self.search_failures = Counter(
            "monitor_search_failures", "Searches that Milvus did not answer.", ("reason",), registry=registry
        )
        self.aligning_lost = Counter(
            "monitor_aligning_lost", "Processes that align and ended by themselves.", registry=registry
        )
        self.catalog_references = Gauge(
            "monitor_catalog_references", "References that answer searches, of all catalogs.", registry=registry
        )
        self.catalog_windows = Gauge("monitor_catalog_windows", "Windows of those references.", registry=registry)
        self.catalog_unsound = Gauge(
            "monitor_catalog_unsound_references",
            "References whose vectors were missing or damaged at the last look.",
            registry=registry,
        )
        self.hits = Counter("monitor_hits", "Neighbours that lie on the line of a match.", stream, registry=registry)
        self.matches = Counter(
            "monitor_matches", "Matches that came to a state.", ("stream", "state"), registry=registry
        )
        self.matches_open = Gauge(
            "monitor_matches_open", "Matches that are provisional or confirmed.", stream, registry=registry
        )
        self.infringements = Counter(
            "monitor_infringements", "Confirmed matches that no licence covers.", stream, registry=registry
        )
        self.infringements_active = Gauge(
            "monitor_infringements_active", "Such matches that are on air now.", stream, registry=registry
        )
        self.match_delay = Histogram(
            "monitor_match_delay_seconds",
            "From the start of an airing to its provisional event in the log.",
            buckets=_DELAY_BUCKETS_S,
            registry=registry,
        )
        self.store_duration = Histogram(
            "monitor_store_duration_seconds", "Time of one write.", buckets=_DURATION_BUCKETS_S, registry=registry
        )
        self.store_failures = Counter(
            "monitor_store_failures", "Writes that PostgreSQL did not take.", ("reason",), registry=registry
        )
        self.dead_letters = Counter(
            "monitor_dead_letters", "Facts that no row can hold; they lie in dead-letters.jsonl.", registry=registry
        )
        self.postgres_up = Gauge("monitor_postgres_up", "1 while PostgreSQL takes what is written.", registry=registry)
        self.milvus_up = Gauge("monitor_milvus_up", "1 while Milvus answers searches.", registry=registry)
        self.deliveries = Counter("monitor_deliveries", "Webhooks accepted.", ("endpoint",), registry=registry)
        self.deliveries_failed = Counter(
            "monitor_deliveries_failed", "Attempts not accepted.", ("endpoint", "reason"), registry=registry
        )
        self.deliveries_pending = Gauge(
            "monitor_deliveries_pending", "Webhooks that wait.", ("endpoint",), registry=registry
        )
        self.deliveries_dead = Counter(
            "monitor_deliveries_dead", "Webhooks given up.", ("endpoint", "reason"), registry=registry
        )
        self.endpoint_state = Gauge(
            "monitor_endpoint_state", "1 for the state that holds.", ("endpoint", "state"), registry=registry
        )
        self.canary_interval = Gauge(
            "monitor_canary_interval_seconds", "Time between two self-tests; 0: there are none.", registry=registry
        )
        self.canary_detection = Gauge(
            "monitor_canary_detection_seconds",
            "From the first sound of the latest self-test to its match.",
            stream,
            registry=registry,
        )
        self.canary_last_success = Gauge(
            "monitor_canary_last_success_timestamp_seconds",
            "When a self-test succeeded last; 0: never.",
            stream,
            registry=registry,
        )
        self.canary_failures = Counter(
            "monitor_canary_failures", "Self-tests that failed.", ("stream", "reason"), registry=registry
        )
        for reason in ServerReason:
            self.search_failures.labels(reason)
            self.store_failures.labels(reason)

    def add_stream(self, stream: str) -> None:
        """All series of the stream exist."""
        for metric in self._of_stream():
            metric.labels(stream)
        for metric, values in self._by_stream():
            for value in values:
                metric.labels(stream, value)

    def remove_stream(self, stream: str) -> None:
        """No series of the stream exists."""
        with contextlib.suppress(KeyError):
            for metric in self._of_stream():
                metric.remove(stream)
            for labelled, values in self._by_stream():
                for value in values:
                    labelled.remove(stream, value)

    def set_stream_state(self, stream: str, state: StreamState) -> None:
        """Exactly this state of the stream is 1."""
        for each in StreamState:
            self.stream_state.labels(stream, each).set(each is state)
        self.stream_up.labels(stream).set(state in {StreamState.RECEIVING, StreamState.SILENT})

    def add_canary(self, stream: str) -> None:
        """All series of a catalog's self-test exist."""
        self.canary_detection.labels(stream)
        self.canary_last_success.labels(stream)
        for reason in CanaryReason:
            self.canary_failures.labels(stream, reason)

    def add_endpoint(self, endpoint: str) -> None:
        """All series of the endpoint exist."""
        self.deliveries.labels(endpoint)
        self.deliveries_pending.labels(endpoint)
        for reason in DeliveryReason:
            self.deliveries_failed.labels(endpoint, reason)
            self.deliveries_dead.labels(endpoint, reason)
        for state in EndpointState:
            self.endpoint_state.labels(endpoint, state)

    def remove_endpoint(self, endpoint: str) -> None:
        """No series of the endpoint exists."""
        with contextlib.suppress(KeyError):
            self.deliveries.remove(endpoint)
            self.deliveries_pending.remove(endpoint)
            for reason in DeliveryReason:
                self.deliveries_failed.remove(endpoint, reason)
                self.deliveries_dead.remove(endpoint, reason)
            for state in EndpointState:
                self.endpoint_state.remove(endpoint, state)

    def delivered(self, endpoint: str) -> None:
        """An attempt was accepted."""
        self.deliveries.labels(endpoint).inc()

    def failed(self, endpoint: str, reason: DeliveryReason) -> None:
        """An attempt was not accepted."""
        self.deliveries_failed.labels(endpoint, reason).inc()

    def gave_up(self, endpoint: str, reason: DeliveryReason, deliveries: int = 1) -> None:
        """Deliveries are dead."""
        self.deliveries_dead.labels(endpoint, reason).inc(deliveries)

    def endpoint_is(self, endpoint: str, state: EndpointState) -> None:
        """Exactly this state of the endpoint is 1."""
        for each in EndpointState:
            self.endpoint_state.labels(endpoint, each).set(each is state)

    def pending(self, endpoint: str, deliveries: int) -> None:
        """So many deliveries wait."""
        self.deliveries_pending.labels(endpoint).set(deliveries)

    def _of_stream(self) -> tuple[Counter | Gauge, ...]:
        return (
            self.stream_up,
            self.stream_blips,
            self.stream_reanchored,
            self.stream_audio_seconds,
            self.stream_covered_seconds,
            self.windows,
            self.hits,
            self.matches_open,
            self.infringements,
            self.infringements_active,
        )

    def _by_stream(self) -> Iterable[tuple[Counter | Gauge, Iterable[str]]]:
        return (
            (self.stream_state, StreamState),
            (self.stream_state_changes, StreamState),
            (self.stream_alarm, StreamAlarm),
            (self.stream_restarts, StreamReason),
            (self.stream_gap_seconds, StreamReason),
            (self.windows_dropped, DropReason),
            (self.matches, MatchState),
        )
