"""Every series, by the process that exports it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from docs.generate.tables import table
from recorder.metrics import RecorderMetrics
from recorder.reward_health_metrics import HealthMetrics
from recorder.rollout_metrics import RolloutMetrics
from retraining.metrics import RetrainingMetrics
from service.metrics import FAMILIES

_KINDS: Final = {"sum": "gauge", "max": "gauge", "latest": "gauge"}


def page() -> str:
    """Every series, by the process that exports it."""
    lines = [
        "# Metrics\n",
        "The service tells its own on `/metrics` of any worker, for all of them; the recorder on "
        "`metrics_port` (8001). Alerts on them are in the [runbook](../runbook.md).",
        "\n## Service\n",
    ]
    served = [(f.name, _KINDS.get(f.kind, f.kind), f.labels, f.help) for f in FAMILIES]
    lines += _metric_table(served)
    registry = RecorderMetrics().registry
    HealthMetrics(registry)
    RolloutMetrics(registry)
    lines += ["\n## Recorder\n", *_metric_table(_registered(registry))]
    lines += ["\n## Retraining\n", *_metric_table(_registered(RetrainingMetrics("").registry))]
    return "\n".join(lines) + "\n"


def _metric_table(found: Iterable[tuple[str, str, Sequence[str], str]]) -> list[str]:
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), told)
        for name, kind, labels, told in found
    ]
    return table(("metric", "type", "labels", "is"), rows)


def _registered(
    registry: CollectorRegistry,
) -> Iterator[tuple[str, str, Sequence[str], str]]:
    # Labels are nowhere public where no child has been made yet.
    collectors: Mapping[Collector, list[str]] = registry._collector_to_names
    for collector in collectors:
        (family,) = collector.describe()  # type: ignore[attr-defined]
        labels = getattr(collector, "_labelnames", None) or getattr(collector, "_labels", ())
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, labels or (), family.documentation
