"""The opset of the graphs that are written here. Needs no torch: what reads ONNX goes without."""

from typing import Final

import onnx

OPSET: Final = 20
"""Within what the pinned PyTorch writes and the pinned ONNX Runtime was tried with."""


def read_opset(model: onnx.ModelProto) -> int:
    """The version of the standard operators that a model really asks for."""
    return max(
        int(opset.version) for opset in model.opset_import if opset.domain in ("", "ai.onnx")
    )
