"""The graph that is served: everything between a raw observation and an action, as ONNX bytes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from contract.declaration import ObservationSpec, legal_actions
from contract.manifest import (
    ACTION_MASK,
    ACTIONS,
    FEATURES,
    MAX_FEATURES,
    OBSERVATIONS,
    Q_VALUES,
)
from exporter.opset import OPSET
from service.inference.policy import Decided
from training.network import QNetwork

MAX_BATCH_ROWS: Final = 1024

_PROJECTION_SEED: Final = 20_150_226
_LOCAL_FIELDS: Final = ("doc_string", "metadata_props")
"""Where PyTorch writes its stack traces, with the paths of the exporting machine."""


class ServingGraph(nn.Module):
    """A Q-network and what serving adds to it: the mask, the argmax and the features for drift."""

    projection: Tensor | None

    def __init__(self, network: QNetwork, *, masked: bool) -> None:
        super().__init__()
        self.network = network
        self.masked = masked
        self.num_features = min(network.feature_size, MAX_FEATURES)
        self.register_buffer("projection", _projection(network.feature_size))
        self.eval()

    def forward(
        self, observations: Tensor, action_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Greedy legal actions [N], Q-values [N, num_actions] and features [N, num_features].

        The Q-values are those of illegal actions too; only the choice obeys the mask.
        """
        penultimate = self.network.features(observations)
        q_values = self.network.head(penultimate)
        legal = q_values if action_mask is None else torch.where(action_mask, q_values, -torch.inf)
        return legal.argmax(dim=1), q_values, self.project(penultimate)

    def project(self, penultimate: Tensor) -> Tensor:
        """The penultimate layer [N, feature_size] as features [N, num_features]."""
        return penultimate if self.projection is None else penultimate @ self.projection

    @torch.no_grad()
    def decide(
        self,
        observations: npt.NDArray[Any],
        action_masks: npt.NDArray[np.bool_] | None = None,
    ) -> Decided:
        """What the network itself says, to hold the exported graph against."""
        masks = None
        if self.masked:
            count = self.network.config.num_actions
            masks = torch.from_numpy(legal_actions(action_masks, len(observations), count))
        actions, q_values, _ = self(torch.from_numpy(observations), masks)
        return Decided(actions.numpy(), q_values.numpy())


def export_graph(graph: ServingGraph, observation: ObservationSpec) -> bytes:
    """The graph as one self-contained ONNX model; the same graph gives the same bytes."""
    # Two rows: PyTorch would take a batch of one for a constant.
    example = [torch.from_numpy(np.zeros((2, *observation.shape), observation.numpy_dtype))]
    names = [OBSERVATIONS]
    if graph.masked:
        example.append(torch.ones(2, graph.network.config.num_actions, dtype=torch.bool))
        names.append(ACTION_MASK)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH_ROWS)
    with _without_exporter_noise():
        program = torch.onnx.export(
            graph,
            tuple(example),
            dynamo=True,
            verbose=False,
            external_data=False,
            opset_version=OPSET,
            input_names=names,
            output_names=[ACTIONS, Q_VALUES, FEATURES],
            dynamic_shapes=tuple({0: batch} for _ in names),
        )
    if program is None:
        raise RuntimeError("PyTorch exported nothing")
    model = program.model_proto
    _remove_local_fields(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _projection(feature_size: int) -> Tensor | None:
    """Signs that keep distances in expectation (Achlioptas, 2003), [feature_size, MAX_FEATURES]."""
    if feature_size <= MAX_FEATURES:
        return None
    rng = np.random.default_rng(_PROJECTION_SEED)
    signs = 2 * rng.integers(2, size=(feature_size, MAX_FEATURES)) - 1
    return torch.from_numpy((signs / np.sqrt(MAX_FEATURES)).astype(np.float32))


def _remove_local_fields(message: Any) -> None:
    """Clear them in a protobuf message and in all that it holds."""
    for field, value in message.ListFields():
        if field.name in _LOCAL_FIELDS:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                _remove_local_fields(child)


@contextmanager
def _without_exporter_noise() -> Iterator[None]:
    """Silence what PyTorch's exporter says of itself: none of it is about the graph."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", r"# The axis name: batch will not be used")
            yield
    finally:
        logger.setLevel(level)
