"""Small real things for tests: a declaration, a bundle whose model runs, records of each kind.

The policy is linear, `q_values = observations @ weights.T + bias`, so that a test can compute what
it must answer. With the weights below it balances CartPole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import Golden, write_bundle
from contract.declaration import (
    ActionSpec,
    ObservationSpec,
    PolicyDeclaration,
    write_declaration,
)
from contract.heuristics import ConstantHeuristic
from contract.manifest import (
    ACTION_MASK,
    ACTIONS,
    FEATURES,
    OBSERVATIONS,
    Q_VALUES,
    Distribution,
    Lineage,
    Manifest,
    Profile,
)
from contract.records import (
    AnsweredBy,
    Column,
    DecisionBatch,
    Outcome,
    TransitionRecord,
)

POLICY = "cartpole"
WEIGHTS = ((0.0, 0.0, -3.0, -1.0), (0.0, 0.0, 3.0, 1.0))
BIAS = (0.02, 0.01)
OPSET = 18
MODEL = AnsweredBy(
    version=3, variant="stable", source="model", reason=None, behaviour=f"{POLICY}@3"
)


def declaration(**changes: Any) -> PolicyDeclaration:
    """Four floats in, two actions out; the heuristic always answers 1."""
    fields: dict[str, Any] = {
        "observation": ObservationSpec(shape=(4,)),
        "actions": ActionSpec(count=2, labels=("left", "right")),
        "heuristic": ConstantHeuristic(action=1),
    }
    return PolicyDeclaration(**(fields | changes))


def distribution(mean: float = 0.0, sd: float = 1.0) -> Distribution:
    deciles = tuple(mean + sd * z for z in (-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28))
    return Distribution(
        count=100, mean=mean, sd=sd, minimum=mean - 3 * sd, maximum=mean + 3 * sd, deciles=deciles
    )


def profile(**changes: Any) -> Profile:
    """Returns about 200, rewards about 1, |Q| up to 20."""
    fields: dict[str, Any] = {
        "episode_return": distribution(200.0, 20.0),
        "episode_length": distribution(200.0, 20.0),
        "reward": distribution(1.0, 0.1),
        "max_q": distribution(10.0, 2.0),
        "absolute_q_maximum": 20.0,
        "observation_deciles": (distribution().deciles,) * 4,
        "q_value_deciles": (distribution(9.0, 2.0).deciles,) * 2,
        "action_frequencies": (0.5, 0.5),
        "num_observations": 1000,
    }
    return Profile(**(fields | changes))


def manifest(declared: PolicyDeclaration | None = None, **changes: Any) -> Manifest:
    """What a bundle of this policy promises; its hashes come from `write_bundle`."""
    declared = declared or declaration()
    fields: dict[str, Any] = {
        "policy": POLICY,
        "version": 1,
        "observation": declared.observation,
        "actions": declared.actions,
        "opset": OPSET,
        "discount": 0.99,
        "q_bound": 100.0,
        "heuristic_behaviour": declared.heuristic.behaviour,
        "floor": 9.5,
        "lineage": Lineage(created_at="2025-01-01T00:00:00Z", source="training"),
        "sha256": {},
    }
    return Manifest(**(fields | changes))


def linear_model(
    declared: PolicyDeclaration | None = None,
    weights: Sequence[Sequence[float]] = WEIGHTS,
    bias: Sequence[float] = BIAS,
    num_features: int = 0,
) -> bytes:
    """A linear policy as ONNX; its features are the first elements of the observation."""
    declared = declared or declaration()
    masked = declared.actions.masked
    nodes = [
        helper.make_node("Cast", [OBSERVATIONS], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "bias"], [Q_VALUES], transB=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {"weights": _floats(weights), "bias": _floats(bias)}
    inputs = [_tensor(OBSERVATIONS, declared.observation.dtype, declared.observation.shape)]
    outputs = [_tensor(ACTIONS, "int64", ()), _tensor(Q_VALUES, "float32", (len(bias),))]
    if masked:
        nodes.append(helper.make_node("Where", [ACTION_MASK, Q_VALUES, "lowest"], ["legal"]))
        constants["lowest"] = _floats([-np.inf])
        inputs.append(_tensor(ACTION_MASK, "bool", (len(bias),)))
    nodes.append(
        helper.make_node("ArgMax", ["legal" if masked else Q_VALUES], [ACTIONS], axis=1, keepdims=0)
    )
    if num_features:
        nodes.append(helper.make_node("Slice", ["flat", "begin", "end", "axis"], [FEATURES]))
        for name, number in (("begin", 0), ("end", num_features), ("axis", 1)):
            constants[name] = np.array([number], dtype=np.int64)
        outputs.append(_tensor(FEATURES, "float32", (num_features,)))
    graph = helper.make_graph(
        nodes,
        "linear",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden(
    declared: PolicyDeclaration | None = None,
    weights: Sequence[Sequence[float]] = WEIGHTS,
    bias: Sequence[float] = BIAS,
    rows: int = 5,
) -> Golden:
    """Observations and the Q-values that `linear_model` gives for them."""
    spec = (declared or declaration()).observation
    rng = np.random.default_rng(11)
    drawn = (
        rng.normal(size=(rows, *spec.shape))
        if spec.dtype.startswith("float")
        else (rng.integers(0, 100, size=(rows, *spec.shape)))
    )
    observations = drawn.astype(spec.numpy_dtype)
    flat = observations.reshape(rows, -1).astype(np.float32)
    q_values = flat @ _floats(weights).T + _floats(bias)
    return Golden(observations, q_values.astype(np.float32))


def write_policy(
    repository: Path,
    declared: PolicyDeclaration | None = None,
    *,
    weights: Sequence[Sequence[float]] = WEIGHTS,
    bias: Sequence[float] = BIAS,
    **changes: Any,
) -> Path:
    """Write `policy.toml` and one version of the linear policy; returns the version's folder.

    Changes are the manifest's fields, such as `policy`, `version` and `profile`.
    """
    declared = declared or declaration()
    promised = manifest(declared, **changes)
    if promised.num_features:
        promised = promised.model_copy(update={"outputs": (ACTIONS, Q_VALUES, FEATURES)})
    directory = repository / promised.policy / str(promised.version)
    directory.parent.mkdir(parents=True, exist_ok=True)
    write_declaration(directory.parent, declared)
    write_bundle(
        directory,
        promised,
        model=linear_model(declared, weights, bias, promised.num_features),
        golden=golden(declared, weights, bias),
        card=f"# {promised.policy} v{promised.version}\n",
    )
    return directory


def decision_batch(
    observations: npt.ArrayLike = ((0.1, 0.2, 0.3, 0.4),),
    *,
    actions: Sequence[int] | None = None,
    decision_ids: Sequence[str] = ("decision-1",),
    row_counts: Sequence[int] | None = None,
    episode_ids: Sequence[str | None] | None = None,
    steps: Sequence[int | None] | None = None,
    time: float = 1000.0,
    **changes: Any,
) -> DecisionBatch:
    """A batch that the model answered; without `row_counts` the first request holds all rows.

    An array keeps its dtype, and a list becomes float32.
    """
    observed = observations if isinstance(observations, np.ndarray) else _floats(observations)
    rows = len(observed)
    fields: dict[str, Any] = {
        "policy": POLICY,
        "schema_hash": "0123456789abcdef",
        "time": time,
        "decision_ids": list(decision_ids),
        "row_counts": list(row_counts or [rows]),
        "episode_ids": list(episode_ids or [None] * rows),
        "steps": list(steps or [None] * rows),
        "observations": Column.of(observed),
        "action_masks": None,
        "actions": Column.of(np.asarray(actions or [0] * rows, dtype=np.int64)),
        "propensities": Column.of(np.ones(rows, dtype=np.float32)),
        "q_values": Column.of(np.zeros((rows, 2), dtype=np.float16)),
        "answered_by": [MODEL],
        "answered_by_index": None,
    }
    return DecisionBatch(**(fields | changes))


def outcome(reward: float = 1.0, *, time: float = 1001.0, **changes: Any) -> Outcome:
    """An outcome that names its decision by `decision_id` and `row`, or `episode_id` and `step`."""
    fields: dict[str, Any] = {
        "policy": POLICY,
        "time": time,
        "decision_id": None,
        "row": 0,
        "episode_id": None,
        "step": None,
        "reward": reward,
    }
    return Outcome(**(fields | changes))


def transition_record(**changes: Any) -> TransitionRecord:
    """A whole transition of an agent that keeps its own."""
    fields: dict[str, Any] = {
        "policy": POLICY,
        "schema_hash": "0123456789abcdef",
        "time": 1000.0,
        "transition_id": "transition-1",
        "episode_id": "episode-1",
        "step": 7,
        "observation": Column.of(_floats([0.1, 0.2, 0.3, 0.4])),
        "action": 1,
        "reward": 2.5,
        "next_observation": Column.of(_floats([0.5, 0.6, 0.7, 0.8])),
        "terminated": False,
        "truncated": False,
        "propensity": 0.25,
        "behaviour": "agent/1",
    }
    return TransitionRecord(**(fields | changes))


def _floats(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, ["N", *shape])
