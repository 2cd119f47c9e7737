"""Functions that a policy may name as its heuristic."""

from typing import Any

import numpy as np
import numpy.typing as npt


def always_raises(
    observations: npt.NDArray[Any], masks: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    raise RuntimeError("a slip in somebody's heuristic")


def quotes_what_it_saw(
    observations: npt.NDArray[Any], masks: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    raise ValueError(f"cannot act on {observations.tolist()}")
