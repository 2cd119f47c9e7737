"""Stable-Baselines3's DQN zip: its weights, and of its `data` only what is plain JSON.

The zip also holds pickled objects in base64. They are not read: what a policy needs is written
beside them in plain.
"""

import re
from typing import Any, Final

import msgspec

from exporter.adoption.archive import member_names, read_member, read_tensors
from exporter.adoption.cleanrl import read_layers
from exporter.adoption.source import Activation, AdoptionError, Facts, Network, Source

_ONLINE: Final = "q_net."
_CNN: Final = ("cnn.0", "cnn.2", "cnn.4", "linear.0")
_ACTIVATIONS: Final[dict[str, Activation]] = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "Sigmoid": "sigmoid",
}


def read_stable_baselines3(content: bytes) -> Source:
    """The policy of `DQN.save`.

    Raises:
        AdoptionError: It is another algorithm's, or has layers or observations of its own.
    """
    data = _read_data(content)
    _check_algorithm(data)
    state = read_tensors(read_member(content, "policy.pth"))
    heads = sorted(
        int(match[1])
        for match in (re.fullmatch(r"q_net\.q_net\.(\d+)\.weight", name) for name in state)
        if match
    )
    names = [f"q_net.q_net.{number}" for number in heads]
    has_pictures = "q_net.features_extractor.cnn.0.weight" in state
    if has_pictures:
        names = [*(f"q_net.features_extractor.{name}" for name in _CNN), *names]
    _check_nothing_left(state, names)
    layers = read_layers(state, names)
    shape, dtype = _observation(data)
    kwargs = _table(data, "policy_kwargs")
    is_divided = _is_picture(data) and kwargs.get("normalize_images") not in (False, "False")
    activation = _activation(kwargs)
    if has_pictures and activation != "relu" and len(heads) > 1:
        raise AdoptionError(f"a network with convolutions and {activation} is adopted as ONNX")
    version = "unknown"
    if "_stable_baselines3_version" in member_names(content):
        version = read_member(content, "_stable_baselines3_version").decode("ascii", "replace")
    return Source(
        kind="stable-baselines3",
        facts=Facts(
            input_shape=shape,
            dtype=dtype,
            num_actions=layers[-1].weight.shape[0],
            discount=_number(data, "gamma"),
            n_step=int(_number(data, "n_steps") or 1),
            seed=None if data.get("seed") is None else int(_number(data, "seed") or 0),
            training_steps=int(_number(data, "num_timesteps") or 0),
            library=f"stable-baselines3 {version.strip()[:20]}",
            first_frames="zeros",
            may_be_normalised=not has_pictures,
        ),
        network=Network(
            layers,
            activation="relu" if has_pictures else activation,
            input_divisor=255.0 if is_divided else 1.0,
        ),
    )


def _read_data(content: bytes) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(read_member(content, "data"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdoptionError(f"data is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise AdoptionError("data is not a table")
    return data


def _check_algorithm(data: dict[str, Any]) -> None:
    module = _table(data, "policy_class").get("__module__")
    if module != "stable_baselines3.dqn.policies":
        raise AdoptionError(
            f"the policy's class is of {module}, expected stable_baselines3.dqn.policies: only DQN "
            "has Q-values to serve; a policy class of your own is adopted as ONNX"
        )


def _check_nothing_left(state: dict[str, Any], names: list[str]) -> None:
    known = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    left = sorted(name for name in state if name.startswith(_ONLINE) and name not in known)
    if left:
        raise AdoptionError(
            f"the network has layers of its own ({left[0]}): export it to ONNX with a q_values "
            "output and adopt that"
        )


def _observation(data: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    space = _table(data, "observation_space")
    found = str(space.get(":type:"))
    if found != "<class 'gymnasium.spaces.box.Box'>":
        raise AdoptionError(
            f"the observation space is {found}, expected a Box: an array is what can be posted; "
            "flatten it in the environment, or export to ONNX with the encoding inside"
        )
    shape, dtype = space.get("_shape"), space.get("dtype")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape) or not shape:
        raise AdoptionError(f"the observation space's shape is {shape}")
    return tuple(shape), str(dtype)


def _is_picture(data: dict[str, Any]) -> bool:
    """As the library itself tells pictures, which it divides by 255."""
    space = _table(data, "observation_space")
    return (
        space.get("dtype") == "uint8"
        and len(space.get("_shape", ())) == 3
        and (space.get("low_repr"), space.get("high_repr")) == ("0", "255")
    )


def _activation(policy_kwargs: dict[str, Any]) -> Activation:
    told = policy_kwargs.get("activation_fn")
    if told is None:
        return "relu"
    name = str(told).removesuffix("'>").rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise AdoptionError(f"activation {told}; known are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    table = data.get(name)
    if not isinstance(table, dict):
        raise AdoptionError(f"data says {name} is {str(table)[:60]}, expected a table")
    return table


def _number(data: dict[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) else None
