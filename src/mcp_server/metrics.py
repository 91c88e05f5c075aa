"""What Prometheus can ask: how many tool calls, how they ended, how long they took; and how many
requests did not get that far."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client import values as prometheus_values

CALLS = Counter("tasktrail_tool_calls", "Tool calls, by tool and outcome.", ["tool", "outcome"])
SECONDS = Histogram(
    "tasktrail_tool_call_seconds",
    "Duration of tool calls.",
    ["tool"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
REFUSALS = Counter(
    "tasktrail_http_refusals",
    "Requests refused before any tool, by status and reason.",
    ["status", "reason"],
)


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format: of all workers, where there are several."""
    if prometheus_values.ValueClass.__name__ == "MmapedValue":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()
