"""Every series the service exports, in one table. Nothing is born on first use elsewhere.

Hot code writes numbers into a page (`service.pages`); prometheus_client renders them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.pages import Page, SeriesKey, StoredSeries

Kind = Literal["counter", "sum", "max", "latest", "histogram"]
"""`sum`, `max` and `latest` are gauges, named for how workers' values become one."""

# The SLO's 0.010 is an exact edge, so that the share within it is read and not interpolated.
_SECONDS: Final = (
    0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010,
    0.0125, 0.015, 0.020, 0.030, 0.050, 0.1, 0.25, 1.0,
)  # fmt: skip
_ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_POSITIVE: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6)
_SIGNED: Final = (*(-edge for edge in reversed(_POSITIVE)), 0.0, *_POSITIVE)


class Family(NamedTuple):
    """One metric family."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()


FAMILIES: Final = (
    Family("dqn_http_requests_total", "counter", "Requests answered.", ("route", "code")),
    Family(
        "dqn_decisions_total",
        "counter",
        "Actions given, by who chose and, where a heuristic did, why.",
        ("policy", "variant", "source", "reason"),
    ),
    Family(
        "dqn_decision_seconds",
        "histogram",
        "From the last body byte received to the answer handed to the socket.",
        ("policy",),
        _SECONDS,
    ),
    Family(
        "dqn_queue_seconds",
        "histogram",
        "From a decoded request to the start of the model call that answers it.",
        ("policy",),
        _SECONDS,
    ),
    Family(
        "dqn_inference_seconds", "histogram", "One call of the model.", ("policy",), _SECONDS
    ),
    Family("dqn_batch_rows", "histogram", "Rows in one call of the model.", ("policy",), _ROWS),
    Family("dqn_in_flight_rows", "sum", "Rows accepted and not yet answered.", ("policy",)),
    Family("dqn_shed_total", "counter", "Rows refused with 429.", ("policy",)),
    Family(
        "dqn_deadline_missed_total", "counter", "Requests answered after their deadline.",
        ("policy",),
    ),
    Family(
        "dqn_breaker_state", "max", "0: the model is asked; 1: it is probed; 2: it is not.",
        ("policy",),
    ),
    Family("dqn_episodes_evicted_total", "counter", "Open episodes dropped to make room."),
    Family(
        "dqn_policy_info", "latest", "1 for the version that a variant serves.",
        ("policy", "variant", "version"),
    ),
    Family("dqn_policy_loads_total", "counter", "Bundles tried.", ("policy", "outcome")),
    Family(
        "dqn_policy_degraded", "max", "1 where the heuristic stands in for the model.",
        ("policy", "reason"),
    ),
    Family("dqn_worker_restarts_total", "counter", "Workers replaced after they died."),
    Family("dqn_build_info", "latest", "1, with the release that runs.", ("release",)),
    Family(
        "dqn_q_value", "histogram", "Largest Q-value of each answered observation.",
        ("policy", "variant"), _SIGNED,
    ),
    Family(
        "dqn_action_gap", "histogram", "Best minus second best Q-value.",
        ("policy", "variant"), (0.001, 0.003, 0.01, 0.03, *_POSITIVE),
    ),
    Family(
        "dqn_q_value_max", "max", "Largest finite |Q| of the version live.", ("policy", "variant")
    ),
    Family(
        "dqn_q_value_training_max", "latest", "Largest |Q| met in training.", ("policy", "variant")
    ),
    Family(
        "dqn_drift_score", "max",
        "Of the column nearest to its limit or farthest beyond, in the last full window.",
        ("policy", "signal", "test"),
    ),
    Family(
        "dqn_drift_threshold", "max", "Limit of that column; NaN where drift is not armed.",
        ("policy", "signal", "test"),
    ),
    Family(
        "dqn_drift_features_alarming", "max", "Columns beyond a limit in the last full window.",
        ("policy",),
    ),
    Family(
        "dqn_drift_armed", "max", "1 where the version that serves has a profile to judge by.",
        ("policy",),
    ),
    Family("dqn_q_nonfinite_total", "counter", "Rows with a NaN or Inf.", ("policy", "variant")),
    Family(
        "dqn_actions_total", "counter", "Actions the model chose.", ("policy", "variant", "action")
    ),
    Family("dqn_canary_share", "max", "Share of new episodes on the canary.", ("policy",)),
    Family(
        "dqn_judge_lease_seconds", "max", "Until the lease of a rollout's judge runs out, or 0.",
        ("policy",),
    ),
    Family(
        "dqn_guardrails_fired_total", "counter", "Canaries that a worker took off.", ("policy",)
    ),
    Family("dqn_ledger_entries", "max", "Changes in the ledger, by what.", ("policy", "action")),
    Family("dqn_shadow_rows_total", "counter", "Rows that the shadow was asked of.", ("policy",)),
    Family(
        "dqn_shadow_disagreements_total", "counter", "Rows where the shadow would act otherwise.",
        ("policy",),
    ),
    Family(
        "dqn_shadow_fallbacks_total", "counter", "Rows that the shadow could not have answered.",
        ("policy",),
    ),
    Family(
        "dqn_shadow_q_gap", "histogram", "Difference of the largest Q-value, shadow and live.",
        ("policy",), (0.001, 0.003, 0.01, 0.03, *_POSITIVE),
    ),
    Family("dqn_shadow_seconds", "histogram", "One call of the shadow.", ("policy",), _SECONDS),
    Family("dqn_outcomes_total", "counter", "Outcomes received.", ("result",)),
    Family("dqn_records_total", "counter", "Records by how far they got.", ("stage",)),
    Family("dqn_spool_bytes", "sum", "Size of the spool."),
    Family("dqn_spool_limit_bytes", "sum", "Size at which the spool accepts nothing more."),
    Family("dqn_spool_oldest_seconds", "max", "Age of the oldest record not yet shipped."),
    Family("dqn_records_dropped_total", "counter", "Records not accepted.", ("reason",)),
    Family("dqn_disk_free_bytes", "latest", "Free space beneath the spool."),
    Family("dqn_redis_up", "max", "1 while Redis takes what is shipped."),
    Family("dqn_keys_stale", "max", "1 while the keys file cannot be read."),
)  # fmt: skip
_BY_NAME: Final = {family.name: family for family in FAMILIES}
_FLUSH_AT: Final = 8192


class Counter:
    """A number that grows, or a gauge that is set."""

    __slots__ = ("_slot",)

    def __init__(self, slot: npt.NDArray[np.float64]) -> None:
        self._slot = slot

    def add(self, amount: float = 1.0) -> None:
        """Grow, or shrink where it is a gauge."""
        self._slot[0] += amount

    def set(self, value: float) -> None:
        """Of a gauge."""
        self._slot[0] = value

    @property
    def value(self) -> float:
        """This worker's own."""
        return float(self._slot[0])


class Histogram:
    """A distribution. Values are kept as they come and sorted into buckets many at a time."""

    __slots__ = ("_edges", "_slots", "_values")

    def __init__(self, slots: npt.NDArray[np.float64], edges: tuple[float, ...]) -> None:
        self._slots = slots
        self._edges = np.array(edges)
        self._values: list[float] = []

    def observe(self, value: float) -> None:
        """Take one value."""
        self._values.append(value)
        if len(self._values) >= _FLUSH_AT:
            self.flush()

    def observe_each(self, values: list[float]) -> None:
        """Take some values."""
        self._values += values
        if len(self._values) >= _FLUSH_AT:
            self.flush()

    def observe_all(self, values: npt.NDArray[np.floating]) -> None:
        """Take many values, none of them NaN."""
        buckets = np.searchsorted(self._edges, values, side="left")
        self._slots[:-1] += np.bincount(buckets, minlength=len(self._edges) + 1)
        self._slots[-1] += values.sum(dtype=np.float64)

    def count_of(self, bucket: int) -> int:
        """Values in one bucket, without those below it; this worker's own."""
        return int(self._slots[bucket])

    def flush(self) -> None:
        """Sort what was kept into its buckets."""
        if self._values:
            values, self._values = np.array(self._values), []
            self.observe_all(values)


class Metrics:
    """Makes children, once each, and renders all workers' numbers as one."""

    def __init__(self, page: Page | None = None) -> None:
        self._page = page or Page()
        self._counters: dict[SeriesKey, Counter] = {}
        self._histograms: dict[SeriesKey, Histogram] = {}
        self.before_scrape: list[Callable[[], None]] = []
        self.registry = CollectorRegistry()
        self.registry.register(_PageCollector(self))

    def counter(self, name: str, *labels: str) -> Counter:
        """The child of a counter or gauge; hot code keeps it."""
        key = _checked_key(name, labels, histogram=False)
        if key not in self._counters:
            self._counters[key] = Counter(self._page.allocate(key, 1))
        return self._counters[key]

    def histogram(self, name: str, *labels: str) -> Histogram:
        """The child of a histogram; hot code keeps it."""
        key = _checked_key(name, labels, histogram=True)
        if key not in self._histograms:
            edges = _BY_NAME[name].edges
            # One slot a bucket, one for +Inf, one for the sum.
            slots = self._page.allocate(key, len(edges) + 2)
            self._histograms[key] = Histogram(slots, edges)
        return self._histograms[key]

    def flush(self) -> None:
        """Put what is held back on the page, where other workers see it."""
        for flush in self.before_scrape:
            flush()
        for histogram in self._histograms.values():
            histogram.flush()

    def collect(self) -> Iterator[Metric]:
        """Every family, with all workers' numbers merged."""
        self.flush()
        merged = _merge(self._page.read_all())
        for family in FAMILIES:
            children = {
                key[1:]: numbers for key, numbers in merged.items() if key[0] == family.name
            }
            yield _render(family, children)


class _PageCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.collect()

    def describe(self) -> Iterable[Metric]:
        return [_render(family, {}) for family in FAMILIES]


def exported_names() -> set[str]:
    """Every name a query may use, with the suffixes of histograms."""
    names = {family.name for family in FAMILIES}
    for family in FAMILIES:
        if family.kind == "histogram":
            # A histogram with negative edges has neither count nor sum: OpenMetrics forbids them.
            is_signed = family.edges[0] < 0
            suffixes = ("bucket",) if is_signed else ("bucket", "count", "sum")
            names |= {f"{family.name}_{suffix}" for suffix in suffixes}
    return names


def _checked_key(name: str, labels: tuple[str, ...], *, histogram: bool) -> SeriesKey:
    family = _BY_NAME[name]
    if len(labels) != len(family.labels) or (family.kind == "histogram") != histogram:
        raise ValueError(f"{name} is a {family.kind} with labels {family.labels}, given {labels}")
    return (name, *labels)


def _merge(stored: Iterable[StoredSeries]) -> dict[SeriesKey, npt.NDArray[np.float64]]:
    merged: dict[SeriesKey, npt.NDArray[np.float64]] = {}
    for series in stored:
        family = _BY_NAME.get(series.key[0])
        if family is None:
            continue
        is_gauge = family.kind not in ("counter", "histogram")
        # What a dead worker counted still happened; what it measured is no longer so.
        if is_gauge and not series.is_alive:
            continue
        known = merged.get(series.key)
        if known is None:
            merged[series.key] = series.values.copy()
        elif family.kind in ("max", "latest"):
            # Where one worker knows a number and another does not (NaN), the number stands.
            np.fmax(known, series.values, out=known)
        else:
            known += series.values
    return merged


def _render(family: Family, children: dict[SeriesKey, npt.NDArray[np.float64]]) -> Metric:
    match family.kind:
        case "histogram":
            histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for labels, numbers in sorted(children.items()):
                counts = np.cumsum(numbers[:-1])
                names = [*(_number(edge) for edge in family.edges), "+Inf"]
                histogram.add_metric(
                    labels, list(zip(names, counts.tolist(), strict=True)), float(numbers[-1])
                )
            return histogram
        case "counter":
            counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for labels, numbers in sorted(children.items()):
                counter.add_metric(labels, float(numbers[0]))
            return counter
        case _:
            gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, numbers in sorted(children.items()):
                gauge.add_metric(labels, float(numbers[0]))
            return gauge


def _number(edge: float) -> str:
    return str(float(edge))
