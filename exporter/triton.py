"""`config.pbtxt`, which lets Triton serve the repository as it is."""

from typing import Final

import onnx

from exporter.graph import MAX_BATCH_ROWS

CONFIG_FILE: Final = "config.pbtxt"

_TYPES: Final[dict[int, str]] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.BOOL: "TYPE_BOOL",
}


def triton_config(policy: str, model: onnx.ModelProto) -> str:
    """Triton's model configuration, read off the graph's own inputs and outputs."""
    tensors = [
        *(_tensor("input", value) for value in model.graph.input),
        *(_tensor("output", value) for value in model.graph.output),
    ]
    return (
        f'name: "{policy}"\n'
        'platform: "onnxruntime_onnx"\n'
        f"max_batch_size: {MAX_BATCH_ROWS}\n" + "".join(tensors) + "dynamic_batching { }\n"
    )


def _tensor(field: str, value: onnx.ValueInfoProto) -> str:
    """One input or output; Triton counts the batch axis itself and wants no empty `dims`."""
    tensor = value.type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim[1:]]
    dims = f"dims: [ {', '.join(map(str, sizes or [1]))} ]"
    reshape = "" if sizes else "\n    reshape: { shape: [ ] }"
    return (
        f"{field} [\n"
        "  {\n"
        f'    name: "{value.name}"\n'
        f"    data_type: {_TYPES[tensor.elem_type]}\n"
        f"    {dims}{reshape}\n"
        "  }\n"
        "]\n"
    )
