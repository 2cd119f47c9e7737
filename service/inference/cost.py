"""How long the model will take: what admission by predicted wait rests on."""

from typing import Final

_WEIGHT: Final = 0.1
"""Of the newest batch in the running mean."""
_CAUTION: Final = 1.15
"""A little late is late: predictions lean to the slow side."""


class CostModel:
    """Seconds of a batch as a fixed part and a part a row, following what is measured."""

    def __init__(self, seconds_for_1: float, seconds_for_64: float) -> None:
        self._per_row = max((seconds_for_64 - seconds_for_1) / 63, 0.0)
        self._fixed = max(seconds_for_1 - self._per_row, 1e-6)
        self._slowness = 1.0
        """Measured over predicted: the machine is not always as free as when it was warmed."""

    def seconds(self, rows: int) -> float:
        """What one call of the model over so many rows is expected to take."""
        return (self._fixed + self._per_row * rows) * self._slowness * _CAUTION

    def rows_within(self, seconds: float) -> int:
        """The most rows that one call is expected to answer in so many seconds; may be below 1."""
        left = seconds / (self._slowness * _CAUTION) - self._fixed
        return int(left / max(self._per_row, 1e-9))

    def record(self, rows: int, seconds: float) -> None:
        """What one call took."""
        ratio = seconds / (self._fixed + self._per_row * rows)
        self._slowness += _WEIGHT * (ratio - self._slowness)
