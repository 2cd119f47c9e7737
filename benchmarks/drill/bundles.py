"""Versions of one CartPole policy: one that is well and others that are not, each in one way."""

from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import Golden, write_bundle
from contract.declaration import ActionSpec, ObservationSpec, PolicyDeclaration, write_declaration
from contract.heuristics import ConstantHeuristic
from contract.manifest import (
    ACTIONS,
    FEATURES,
    OBSERVATIONS,
    Q_VALUES,
    Lineage,
    Manifest,
    Profile,
)
from contract.profile import Played, sum_up

POLICY: Final = "cartpole"
EPISODE_STEPS: Final = 50
PAYS: Final = (0.9, 1.1)
"""What a step pays, the same through an episode: returns vary by a tenth of their mean."""
WELL, EXPLODED, OVERFLOWING, SLOW, NOT_A_NUMBER = 1, 2, 3, 4, 5

DECLARATION: Final = PolicyDeclaration(
    observation=ObservationSpec(shape=(4,)),
    actions=ActionSpec(count=2),
    heuristic=ConstantHeuristic(action=1),
)

_WEIGHTS: Final = np.array([[0, 0, -3, -1], [0, 0, 3, 1]], dtype=np.float32)
_BIAS: Final = np.float32(25.0)
_OPSET: Final = 18
_PROFILE_EPISODES: Final = 400
"""20,000 steps, as `dqn export` plays."""
_SLOW_WIDTH, _SLOW_LAYERS = 2048, 72

Array = npt.NDArray[Any]


def write_versions(repository: Path) -> None:
    """The policy and all its versions but the exploded one; none is promoted."""
    folder = repository / POLICY
    folder.mkdir(parents=True)
    write_declaration(folder, DECLARATION)
    profile = _profile()
    # So near zero that even a gain of 1e40 stays finite: its fault shows in traffic only.
    quiet = (np.random.default_rng(0).standard_normal((5, 4)) * 1e-3).astype(np.float32)
    for version, factor, gain, num_layers in (
        (WELL, 1.0, 1.0, 0),
        (OVERFLOWING, 1e20, 1e20, 0),
        (SLOW, 1.0, 1.0, _SLOW_LAYERS),
        (NOT_A_NUMBER, float("nan"), 1.0, 0),
    ):
        q_values = (quiet @ (_WEIGHTS * np.float32(factor)).T + _BIAS) * np.float32(gain)
        manifest = make_manifest(version, profile)
        if version == OVERFLOWING:
            manifest = manifest.model_copy(update={"q_bound": None})
        write_bundle(
            folder / str(version),
            manifest,
            model=_model(factor, gain, num_layers),
            golden=Golden(quiet, np.nan_to_num(q_values).astype(np.float32)),
            card=f"# {POLICY} v{version}\n",
        )


def make_manifest(version: int, profile: Profile) -> Manifest:
    """What every version promises, whether it keeps it or not."""
    return Manifest(
        policy=POLICY,
        version=version,
        observation=DECLARATION.observation,
        actions=DECLARATION.actions,
        outputs=(ACTIONS, Q_VALUES, FEATURES),
        num_features=4,
        opset=_OPSET,
        discount=0.99,
        q_bound=100.0,
        heuristic_behaviour=DECLARATION.heuristic.behaviour,
        floor=10.0,
        profile=profile,
        lineage=Lineage(created_at="2026-01-01T00:00:00Z", source="drill"),
        sha256={},
    )


def balance(observation: Array) -> int:
    """What the version that is well does."""
    return int(np.argmax(_WEIGHTS @ observation))


def _model(factor: float, gain: float, num_layers: int) -> bytes:
    constants: dict[str, Array] = {
        "weights": _WEIGHTS * np.float32(factor),
        "bias": np.full(2, _BIAS),
        "gain": np.array(gain, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Identity", [OBSERVATIONS], [FEATURES]),
        helper.make_node("Gemm", [OBSERVATIONS, "weights", "bias"], ["sum"], transB=1),
        helper.make_node("Mul", ["sum", "gain"], ["gained"]),
    ]
    if num_layers:
        # One matrix many times over: slow, and small on disk. What comes of it is nothing.
        rng = np.random.default_rng(1)
        constants["into"] = rng.standard_normal((4, _SLOW_WIDTH), dtype=np.float32)
        constants["around"] = rng.standard_normal((_SLOW_WIDTH, _SLOW_WIDTH), dtype=np.float32)
        constants["around"] /= np.float32(_SLOW_WIDTH)
        constants["out_of"] = np.full((_SLOW_WIDTH, 2), 1e-30, dtype=np.float32)
        nodes.append(helper.make_node("MatMul", [OBSERVATIONS, "into"], ["hidden_0"]))
        for layer in range(num_layers):
            names = [f"hidden_{layer}", "around"], [f"hidden_{layer + 1}"]
            nodes.append(helper.make_node("MatMul", *names))
        nodes.append(helper.make_node("MatMul", [f"hidden_{num_layers}", "out_of"], ["nothing"]))
        nodes.append(helper.make_node("Add", ["gained", "nothing"], [Q_VALUES]))
    else:
        nodes.append(helper.make_node("Identity", ["gained"], [Q_VALUES]))
    nodes.append(helper.make_node("ArgMax", [Q_VALUES], [ACTIONS], axis=1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        "drill",
        [_tensor(OBSERVATIONS, TensorProto.FLOAT, [4])],
        [
            _tensor(ACTIONS, TensorProto.INT64, []),
            _tensor(Q_VALUES, TensorProto.FLOAT, [2]),
            _tensor(FEATURES, TensorProto.FLOAT, [4]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    return bytes(model.SerializeToString())


def _tensor(name: str, kind: int, shape: list[int]) -> Any:
    return helper.make_tensor_value_info(name, kind, ["N", *shape])


def _profile() -> Profile:
    """What episodes of the version that is well look like."""
    environment = gymnasium.make("CartPole-v1", max_episode_steps=EPISODE_STEPS)
    observations: list[Array] = []
    actions: list[int] = []
    lengths: list[int] = []
    for seed in range(_PROFILE_EPISODES):
        observation, _ = environment.reset(seed=10_000 + seed)
        is_over, length = False, 0
        while not is_over:
            observations.append(observation)
            actions.append(balance(observation))
            observation, _, terminated, truncated, _ = environment.step(actions[-1])
            is_over, length = terminated or truncated, length + 1
        lengths.append(length)
    seen, steps = np.array(observations), np.array(lengths)
    pays = np.resize(PAYS, len(steps))
    played = Played(
        observations=seen,
        cells=None,
        q_values=(seen @ _WEIGHTS.T + _BIAS).astype(np.float32),
        features=seen,
        actions=np.array(actions, dtype=np.int64),
        rewards=np.repeat(pays, steps),
        returns=pays * steps,
        lengths=steps,
    )
    return sum_up(played, None)
