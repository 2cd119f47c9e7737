"""A histogram of what may be negative, with its sum: prometheus_client leaves the sum out.

A sum that may fall confuses `rate`, which is why. Means over a window need it all the same, and
`increase` of a sum that seldom falls is right where no counter reset is in the window.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


@dataclass
class _Child:
    counts: list[int]
    total: float = field(default=0.0)


class SignedHistogram(Collector):
    """Owns the counts of one family."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._edges = tuple(buckets)
        self._children: dict[tuple[str, ...], _Child] = {}
        registry.register(self)

    def add_child(self, *labels: str) -> None:
        """Tell of these labels from now on."""
        self._children.setdefault(labels, _Child([0] * (len(self._edges) + 1)))

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        self.add_child(*labels)
        child = self._children[labels]
        child.counts[bisect_left(self._edges, value)] += 1
        child.total += value

    def describe(self) -> Iterable[Metric]:
        """The family without its children."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """The family as Prometheus reads it."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*map(str, self._edges), "+Inf"]
        for labels, child in sorted(self._children.items()):
            cumulative = [float(count) for count in accumulate(child.counts)]
            family.add_metric(labels, list(zip(names, cumulative, strict=True)), None)
            named = dict(zip(self._labels, labels, strict=True))
            family.samples.append(Sample(f"{self._name}_count", named, cumulative[-1]))
            family.samples.append(Sample(f"{self._name}_sum", named, child.total))
        return [family]
