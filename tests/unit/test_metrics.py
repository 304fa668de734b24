from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from monitor.errors import StreamReason
from monitor.metrics import Metrics
from monitor.types import StreamState


def test_every_series_of_a_stream_exists_at_once_and_goes_with_it():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    empty = generate_latest(registry)
    metrics.add_stream("one")
    for reason in StreamReason:
        value = registry.get_sample_value("monitor_stream_restarts_total", {"stream": "one", "reason": reason})
        assert value == 0.0
    metrics.set_stream_state("one", StreamState.SILENT)
    states = {s: registry.get_sample_value("monitor_stream_state", {"stream": "one", "state": s}) for s in StreamState}
    assert [state for state, value in states.items() if value] == [StreamState.SILENT]
    assert registry.get_sample_value("monitor_stream_up", {"stream": "one"}) == 1.0
    metrics.remove_stream("one")
    assert generate_latest(registry) == empty


def test_every_series_of_an_endpoint_goes_with_it():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    empty = generate_latest(registry)
    metrics.add_endpoint("desk")
    assert registry.get_sample_value("monitor_deliveries_total", {"endpoint": "desk"}) == 0.0
    metrics.remove_endpoint("desk")
    assert generate_latest(registry) == empty
