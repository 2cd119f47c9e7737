"""One version of a policy, loaded: observations in, actions and Q-values out."""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from contract.declaration import legal_actions
from contract.manifest import ACTION_MASK, ACTIONS, FEATURES, OBSERVATIONS, Q_VALUES, Manifest

Provider = Literal["cpu", "cuda", "tensorrt"]
_PROVIDERS: Final[dict[Provider, str]] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


_OUTPUTS: Final = [ACTIONS, Q_VALUES]
_WITH_FEATURES: Final = [ACTIONS, Q_VALUES, FEATURES]


class Decided(NamedTuple):
    """What the model says of N observations."""

    actions: npt.NDArray[np.int64]
    """[N]."""
    q_values: npt.NDArray[np.float32]
    """[N, num_actions]."""
    features: npt.NDArray[np.float32] | None = None
    """[N, num_features]; None unless they were asked for."""


class Policy:
    """An ONNX Runtime session and the manifest it was made under. Safe to call from one thread."""

    def __init__(self, manifest: Manifest, session: ort.InferenceSession) -> None:
        self.manifest = manifest
        self.behaviour = f"{manifest.policy}@{manifest.version}"
        self._session = session
        self._takes_mask = manifest.actions.masked
        self.gives_features = False
        """The next calls give features as well; for bundles that have them."""

    def decide(
        self,
        observations: npt.NDArray[Any],
        action_masks: npt.NDArray[np.bool_] | None = None,
    ) -> Decided:
        """Run the model.

        Args:
            observations: [N, *shape] in the spec's dtype.
            action_masks: [N, num_actions], True where legal; only for policies that are masked.
        """
        feeds: dict[str, npt.NDArray[Any]] = {OBSERVATIONS: observations}
        if self._takes_mask:
            count = self.manifest.actions.count
            feeds[ACTION_MASK] = legal_actions(action_masks, len(observations), count)
        outputs = _WITH_FEATURES if self.gives_features else _OUTPUTS
        return Decided(*self._session.run(outputs, feeds))


def missing_providers(providers: Sequence[Provider]) -> list[Provider]:
    """Those that the installed ONNX Runtime has not: it would fall back in silence."""
    available = ort.get_available_providers()
    return [each for each in providers if _PROVIDERS[each] not in available]


def open_session(model: bytes, providers: Sequence[Provider] = ("cpu",)) -> ort.InferenceSession:
    """A session over these bytes: one thread, no spinning, every graph optimisation.

    One thread because the service scales by workers, and because two sessions with pools of their
    own slow each other down.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=[_PROVIDERS[each] for each in providers])
