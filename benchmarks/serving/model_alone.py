"""One raw call of ONNX Runtime: what is left when there is no server around the model."""

import statistics
import time
from collections.abc import Mapping

import numpy as np

from benchmarks.report import Figure
from contract.manifest import ACTIONS, OBSERVATIONS, Q_VALUES
from service.inference.policy import open_session

_CALLS = 1_000
_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def model_alone(models: Mapping[str, bytes]) -> list[Figure]:
    """The median time of a call for one observation, in microseconds, of each model."""
    figures = []
    for name, model in models.items():
        session = open_session(model)
        taken = session.get_inputs()[0]
        feeds = {OBSERVATIONS: np.zeros((1, *taken.shape[1:]), dtype=_DTYPES[taken.type])}
        took = []
        for _ in range(_CALLS):
            began_at = time.perf_counter()
            session.run([ACTIONS, Q_VALUES], feeds)
            took.append(time.perf_counter() - began_at)
        median = statistics.median(took) * 1e6
        figures.append(Figure(f"{name}: ONNX Runtime alone, one observation", median, "us"))
    return figures
