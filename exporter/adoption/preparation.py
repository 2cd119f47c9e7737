"""From the observation that agents send to the one that the network was trained on.

Frames are stacked, laid out and normalised inside the graph, so that an agent sends what its
environment gives. Written twice, as ONNX and in numpy, so that one can be held to the other.
"""

import zipfile
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.declaration import ObservationSpec
from contract.manifest import OBSERVATIONS
from exporter.adoption.source import NETWORK_INPUT, AdoptionError

ImageLayout = Literal["grey", "channels-first", "channels-last"]
"""Of one frame as an agent sends it: [height, width], [channels, height, width], or with the
channels last."""

_TO_CHANNELS_FIRST: Final = {4: (0, 3, 1, 2), 5: (0, 1, 4, 2, 3)}
"""By the number of axes, of which the first is the batch and the second of five the stack."""


class Normalisation(NamedTuple):
    """Statistics that observations went through in training, of `VecNormalize`."""

    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    epsilon: float
    clip: float


class Preparation(NamedTuple):
    """What happens before the network."""

    observation: ObservationSpec
    input_shape: tuple[int, ...]
    """Of one input of the network."""
    layout: ImageLayout | None
    """None where observations are not pictures."""
    normalisation: Normalisation | None


def observation_shape(
    input_shape: tuple[int, ...], layout: ImageLayout | None, frame_stack: int
) -> tuple[int, ...]:
    """The shape of what agents' frames make, for a network that takes `input_shape`.

    Pictures come to networks as [stack * channels, height, width], the oldest frame first.

    Raises:
        AdoptionError: The network takes no such stack, or no such frames.
    """
    stacked, *rest = input_shape
    per_frame, left = divmod(stacked, frame_stack)
    if left:
        raise AdoptionError(f"{stacked} channels or elements are no stack of {frame_stack} frames")
    frame: tuple[int, ...]
    match layout:
        case None:
            frame = (per_frame, *rest)
        case "grey":
            if per_frame != 1:
                raise AdoptionError(
                    f"the network takes {stacked} channels, a stack of {frame_stack} grey frames "
                    f"has {frame_stack}: state the frame stack, or another image layout"
                )
            frame = tuple(rest)
        case "channels-first":
            frame = (per_frame, *rest)
        case "channels-last":
            frame = (*rest, per_frame)
    return frame if frame_stack == 1 else (frame_stack, *frame)


def prepare(preparation: Preparation, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Observations [N, *shape] as the network takes them, [N, *input_shape]."""
    prepared = observations.astype(np.float64)
    if preparation.normalisation is not None:
        mean, variance, epsilon, clip = preparation.normalisation
        prepared = np.clip((prepared - mean) / np.sqrt(variance + epsilon), -clip, clip)
    if preparation.layout == "channels-last":
        prepared = prepared.transpose(_TO_CHANNELS_FIRST[prepared.ndim])
    return prepared.reshape(-1, *preparation.input_shape).astype(np.float32)


def preparation_nodes(
    preparation: Preparation, element_type: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The same as a graph, from `OBSERVATIONS` to `NETWORK_INPUT`, and its constants.

    Args:
        preparation: What to do.
        element_type: ONNX's number of the type that the network takes.
    """
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, npt.NDArray[Any]] = {}
    current = OBSERVATIONS

    def then(operator: str, *others: str, **attributes: Any) -> None:
        nonlocal current
        result = f"prepared_{len(nodes)}"
        nodes.append(helper.make_node(operator, [current, *others], [result], **attributes))
        current = result

    if preparation.normalisation is not None:
        mean, variance, epsilon, clip = preparation.normalisation
        constants |= {
            "normal_mean": mean,
            "normal_scale": np.sqrt(variance + epsilon),
            "normal_low": np.array(-clip),
            "normal_high": np.array(clip),
        }
        then("Cast", to=TensorProto.DOUBLE)
        then("Sub", "normal_mean")
        then("Div", "normal_scale")
        then("Clip", "normal_low", "normal_high")
    if preparation.layout == "channels-last":
        then("Transpose", perm=_TO_CHANNELS_FIRST[len(preparation.observation.shape) + 1])
    constants["input_shape"] = np.array([-1, *preparation.input_shape], np.int64)
    then("Reshape", "input_shape")
    nodes.append(helper.make_node("Cast", [current], [NETWORK_INPUT], to=element_type))
    return nodes, [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]


def read_normalisation(path: Path, shape: tuple[int, ...]) -> Normalisation:
    """`VecNormalize`'s statistics from an `.npz` with mean, var, epsilon and clip_obs.

    Raises:
        AdoptionError: It is a pickle, is damaged, or does not fit observations of `shape`.
    """
    if path.suffix in (".pkl", ".pickle"):
        raise AdoptionError(
            f"{path}: a pickle can run any code, so it is not read; where you trust it, save its "
            "numbers: v = VecNormalize.load(path, venv); numpy.savez('vecnormalize.npz', "
            "mean=v.obs_rms.mean, var=v.obs_rms.var, epsilon=v.epsilon, clip_obs=v.clip_obs)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = Normalisation(
                np.asarray(archive["mean"], np.float64),
                np.asarray(archive["var"], np.float64),
                float(archive["epsilon"]),
                float(archive["clip_obs"]),
            )
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise AdoptionError(f"{path}: expected an .npz of VecNormalize's: {error}") from error
    shapes = (found.mean.shape, found.variance.shape)
    if shapes != (shape, shape):
        raise AdoptionError(f"{path}: statistics of shapes {shapes}, observations are {shape}")
    finite = np.isfinite(found.mean).all() and np.isfinite(found.variance).all()
    if not (finite and (found.variance >= 0).all() and found.epsilon > 0 and found.clip > 0):
        raise AdoptionError(f"{path}: holds numbers that are no statistics")
    return found
