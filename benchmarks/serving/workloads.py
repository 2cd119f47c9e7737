"""What is asked for, how hard, and how good the answer must be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Workload:
    """One closed-loop load."""

    model: str
    rows: int
    """Observations a request."""
    connections: int
    workers: int = 1
    p50_ms: float | None = None
    """Our p50 is to be at most this."""
    p99_ms: float | None = None
    """Our p99 is to be at most this."""
    ratios: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Rival to what our requests/s are to be at least, as a multiple of its own."""

    @property
    def name(self) -> str:
        """In words; `--loads` looks for parts of it."""
        rows = f", {self.rows} observations a request" if self.rows > 1 else ""
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        plural = "s" if self.connections > 1 else ""
        return f"{self.model}{rows}, {self.connections} connection{plural}{workers}"


_OTHERS: Final = ("litserve", "bentoml", "mlserver", "kserve", "ray", "triton")

WORKLOADS: Final = (
    Workload("mlp", 1, 1, p50_ms=0.35),
    Workload("mlp", 1, 16, p99_ms=4, ratios={"mosec": 3.0}),
    Workload(
        *("mlp", 1, 64),
        p99_ms=6,
        # Everything on costs at most half of what the bare probe can do.
        ratios={"mosec": 1.7, "probe": 0.5} | dict.fromkeys(_OTHERS, 15.0),
    ),
    Workload("mlp", 1, 256, ratios={"mosec": 1.2}),
    Workload("mlp", 32, 16, ratios={"mosec": 1.5}),
    Workload("cnn", 1, 1, p50_ms=1.3),
    Workload("cnn", 1, 8, p99_ms=7, ratios={"mosec": 1.1}),
    Workload("cnn", 1, 32),
    Workload("cnn", 1, 32, workers=2, ratios={"mosec": 1.2}),
)
