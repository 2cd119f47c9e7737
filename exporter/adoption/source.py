"""A policy trained elsewhere as plain values: what the reading child hands to its parent."""

from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

Kind = Literal["onnx", "stable-baselines3", "cleanrl"]
Activation = Literal["relu", "tanh", "elu", "leaky_relu", "sigmoid"]
FloatArray = npt.NDArray[np.float32]

NETWORK_INPUT: Final = "network_input"
NETWORK_OUTPUT: Final = "network_q_values"


class AdoptionError(Exception):
    """A policy cannot be adopted; the message says why and what to do about it."""


class Tensor(msgspec.Struct, frozen=True):
    """Float32 numbers in C order."""

    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "Tensor":
        """From an array; anything but float32 is rounded to it."""
        floats = np.ascontiguousarray(array, np.float32)
        return cls(floats.shape, floats.tobytes())

    def array(self) -> FloatArray:
        """Read-only view."""
        return np.frombuffer(self.data, np.float32).reshape(self.shape)


class Linear(msgspec.Struct, frozen=True, tag=True):
    """`inputs @ weight.T + bias`; weight is [outputs, inputs]. Flattens what comes."""

    weight: Tensor
    bias: Tensor


class Convolution(msgspec.Struct, frozen=True, tag=True):
    """Without padding; weight is [channels out, channels in, height, width]."""

    weight: Tensor
    bias: Tensor
    stride: int


Layer = Linear | Convolution


class Network(msgspec.Struct, frozen=True):
    """Layers with one activation between any two, and after each but the last."""

    layers: tuple[Layer, ...]
    activation: Activation = "relu"
    input_divisor: float = 1.0
    """What the library divides observations by: 255 for pictures."""


class Facts(msgspec.Struct, frozen=True):
    """What the source says of itself; None where it does not."""

    input_shape: tuple[int, ...] | None = None
    """Of one input of the network; None where the weights leave it open."""
    dtype: str | None = None
    num_actions: int | None = None
    discount: float | None = None
    n_step: int | None = None
    seed: int | None = None
    training_steps: int | None = None
    library: str = "unknown"
    first_frames: Literal["repeat", "zeros"] = "repeat"
    """How the library fills a frame stack at an episode's start."""
    may_be_normalised: bool = False
    """Whether its observations may have gone through statistics that it does not hold."""


class Source(msgspec.Struct, frozen=True, tag=True):
    """A network as layers, or as an ONNX graph cut down to what gives the Q-values."""

    kind: Kind
    facts: Facts
    network: Network | None = None
    graph: bytes | None = None
    """From `NETWORK_INPUT` to `NETWORK_OUTPUT`."""
