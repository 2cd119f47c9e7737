"""What every rival runs: the ONNX file under the session settings that our own service uses."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

MODEL_VARIABLE = "RIVAL_MODEL"
PORT_VARIABLE = "RIVAL_PORT"
WORKERS_VARIABLE = "RIVAL_WORKERS"
"""Set for every rival's process: some read their own command line, some import this twice."""

MAX_BATCH = 64
WAIT_SECONDS = 0.001

Observations = npt.NDArray[Any]


class Decider(NamedTuple):
    """A session and what one observation of it looks like."""

    session: ort.InferenceSession
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def takes_frames(self) -> bool:
        """Whether observations are bytes, which no server is asked for as JSON numbers."""
        return bool(self.dtype == np.uint8)

    def from_rows(self, rows: Any) -> Observations:
        """Observations [N, *shape] from nested lists."""
        return np.asarray(rows, self.dtype).reshape(-1, *self.shape)

    def from_bytes(self, content: bytes) -> Observations:
        """Observations [N, *shape] from their elements in C order."""
        return np.frombuffer(content, self.dtype).reshape(-1, *self.shape)

    def decide(self, observations: Observations) -> list[int]:
        """Greedy actions, [N]."""
        actions, _ = self.session.run(["actions", "q_values"], {"observations": observations})
        return [int(action) for action in actions]

    def decide_each(self, requests: Sequence[Observations]) -> list[list[int]]:
        """Greedy actions of several requests with one call of the model."""
        if len(requests) == 1:
            return [self.decide(requests[0])]
        actions = self.decide(np.concatenate(requests))
        ends = np.cumsum([len(request) for request in requests]).tolist()
        return [
            actions[end - len(request) : end] for request, end in zip(requests, ends, strict=True)
        ]


def open_decider() -> Decider:
    """Open the model that the environment names: one thread, no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        os.environ[MODEL_VARIABLE], options, providers=["CPUExecutionProvider"]
    )
    (taken,) = session.get_inputs()
    dtype = np.dtype(np.uint8 if taken.type == "tensor(uint8)" else np.float32)
    return Decider(session, dtype, tuple(taken.shape[1:]))


def port() -> int:
    """The port to listen on."""
    return int(os.environ[PORT_VARIABLE])


def workers() -> int:
    """How many processes may run the model."""
    return int(os.environ[WORKERS_VARIABLE])
