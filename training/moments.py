"""Mean, spread and extremes of a stream, without keeping the stream."""

from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

FloatArray = npt.NDArray[np.float64]


class Moments(BaseModel):
    """What has been seen of one number; `None` for what no value has settled yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    mean: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None


class RunningMoments:
    """Element-wise moments of values of one shape, merged batch by batch (Chan et al., 1979)."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.mean: FloatArray = np.zeros(shape)
        self._squares: FloatArray = np.zeros(shape)
        self.minimum: FloatArray = np.full(shape, np.inf)
        self.maximum: FloatArray = np.full(shape, -np.inf)

    def add(self, values: npt.ArrayLike) -> None:
        """Take in a batch of values, [N, *shape]."""
        batch = np.asarray(values, dtype=np.float64)
        if len(batch) == 0:
            return
        batch_mean = batch.mean(axis=0)
        total = self.count + len(batch)
        shift = batch_mean - self.mean
        self.mean = self.mean + shift * (len(batch) / total)
        self._squares = (
            self._squares
            + ((batch - batch_mean) ** 2).sum(axis=0)
            + shift**2 * (self.count * len(batch) / total)
        )
        self.minimum = np.minimum(self.minimum, batch.min(axis=0))
        self.maximum = np.maximum(self.maximum, batch.max(axis=0))
        self.count = total

    @property
    def sd(self) -> FloatArray:
        """Standard deviation of the values seen, of `shape`."""
        return np.asarray(np.sqrt(self._squares / max(self.count, 1)))

    def summary(self) -> Moments:
        """The moments as a value to write down; only for single numbers (shape `()`)."""
        if self.count == 0:
            return Moments(count=0, mean=None, sd=None, minimum=None, maximum=None)
        return Moments(
            count=self.count,
            mean=float(self.mean),
            sd=float(self.sd),
            minimum=float(self.minimum),
            maximum=float(self.maximum),
        )

    def state(self) -> dict[str, FloatArray]:
        """Everything that `from_state` needs to go on bit for bit."""
        return {
            "count": np.array(float(self.count)),
            "mean": self.mean,
            "squares": self._squares,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }

    @classmethod
    def from_state(cls, state: dict[str, FloatArray]) -> Self:
        """The moments that `state` was taken of."""
        moments = cls(state["mean"].shape)
        moments.count = int(state["count"])
        moments.mean = state["mean"]
        moments._squares = state["squares"]
        moments.minimum = state["minimum"]
        moments.maximum = state["maximum"]
        return moments
