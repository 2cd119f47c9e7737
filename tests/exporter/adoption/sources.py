"""Files laid out as other libraries lay theirs out, with weights of our own.

Layouts are those of Stable-Baselines3 2.9, CleanRL and d3rlpy 2.8, which the slow tests run.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

Array = npt.NDArray[Any]


def perceptron(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """4 -> 6 -> 5 -> 3, the same weights every time."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Linear(4, 6), activation(), nn.Linear(6, 5), activation(), nn.Linear(5, 3)
    )


def picture_network(channels: int = 4, hidden: int = 8) -> nn.Sequential:
    """Of Mnih et al. (2015), for pictures of 36 x 40; the same weights every time."""
    torch.manual_seed(8)
    return nn.Sequential(
        *(nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU()),
        *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, stride=1), nn.ReLU()),
        nn.Flatten(),
        *(nn.Linear(64, hidden), nn.ReLU()),
        nn.Linear(hidden, 3),
    )


def q_values_of(network: nn.Module, inputs: Array) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        found: npt.NDArray[np.float32] = network(
            torch.from_numpy(inputs.astype(np.float32))
        ).numpy()
    return found


def write_sb3(
    path: Path,
    network: nn.Sequential,
    *,
    shape: tuple[int, ...] = (4,),
    data: dict[str, Any] | None = None,
    extra: dict[str, Tensor] | None = None,
) -> Path:
    """As `DQN.save` does; the pickled halves of its `data` are left empty, nobody reads them."""
    is_picture = isinstance(network[0], nn.Conv2d)
    space = {
        ":type:": "<class 'gymnasium.spaces.box.Box'>",
        "_shape": list(shape),
        "dtype": "uint8" if is_picture else "float32",
        "low_repr": "0" if is_picture else "-inf",
        "high_repr": "255" if is_picture else "inf",
    }
    told = {
        "policy_class": {"__module__": "stable_baselines3.dqn.policies"},
        "policy_kwargs": {},
        "observation_space": space,
        "gamma": 0.97,
        "seed": 5,
        "num_timesteps": 1234,
        "n_steps": 1,
    }
    state: dict[str, Tensor] = dict(extra or {})
    for name, tensor in network.state_dict().items():
        number, part = name.split(".")
        if not is_picture:
            online = f"q_net.{number}.{part}"
        elif int(number) <= 4:
            online = f"features_extractor.cnn.{number}.{part}"
        else:
            online = f"features_extractor.linear.0.{part}" if number == "7" else f"q_net.0.{part}"
        state[f"q_net.{online}"] = tensor
        # The target network lags: whoever reads it gives other Q-values.
        state[f"q_net_target.{online}"] = tensor - 0.5
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(told | (data or {})))
        archive.writestr("policy.pth", saved(state))
        archive.writestr("_stable_baselines3_version", "2.9.2")
    return path


def write_cleanrl(path: Path, network: nn.Sequential) -> Path:
    path.write_bytes(saved({f"network.{name}": t for name, t in network.state_dict().items()}))
    return path


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def onnx_network(
    network: nn.Sequential,
    *,
    output: str = "q",
    opset: int = 18,
    is_traced: bool = False,
    last_node: str | None = None,
    batch: str | int = "batch",
) -> bytes:
    """A perceptron as another tool would export it.

    Args:
        network: Linear layers and ReLU.
        output: Name of the output.
        opset: Of the standard operators.
        is_traced: As d3rlpy does: one observation is written into its shapes, the mean over an
            ensemble is taken, and only the argmax comes out.
        last_node: An operator that makes something else of the Q-values, such as Softmax.
        batch: The first axis of the input.
    """
    nodes, constants, current = [], {}, "input_0"
    for number, layer in enumerate(network):
        result = f"h{number}"
        if isinstance(layer, nn.Linear):
            constants[f"w{number}"] = layer.weight.detach().numpy()
            constants[f"b{number}"] = layer.bias.detach().numpy()
            inputs = [current, f"w{number}", f"b{number}"]
            nodes.append(helper.make_node("Gemm", inputs, [result], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [current], [result]))
        current = result
    kind, sizes = TensorProto.FLOAT, [batch, 3]
    if is_traced:
        constants["shape"] = np.array([1, 1, 3])
        nodes.append(helper.make_node("Reshape", [current, "shape"], ["critics"]))
        nodes.append(helper.make_node("ReduceMean", ["critics"], ["mean"], axes=[0], keepdims=0))
        nodes.append(helper.make_node("ArgMax", ["mean"], [output], axis=1, keepdims=0))
        kind, sizes = TensorProto.INT64, [1]
    else:
        nodes.append(helper.make_node(last_node or "Identity", [current], [output]))
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info(output, kind, sizes)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="elsewhere")
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def vectors(rows: int = 20) -> npt.NDArray[np.float32]:
    return np.random.default_rng(4).normal(size=(rows, 4)).astype(np.float32)


def pictures(*shape: int, rows: int = 5) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (rows, *shape)).astype(np.uint8)


def write_npz(path: Path, **arrays: Any) -> Path:
    converted: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(path, **converted)
    return path
