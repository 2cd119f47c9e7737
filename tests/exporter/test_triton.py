import re

import onnx

from contract.declaration import ActionSpec, ObservationSpec
from exporter.triton import triton_config
from tests.builders import declaration, linear_model


def tensors(config: str) -> dict[str, tuple[str, str, str]]:
    """Direction, type and dims by name."""
    found = re.findall(
        r"(input|output) \[\s+\{\s+name: \"(\w+)\"\s+data_type: (\w+)\s+dims: \[ ([\d, ]+) \]",
        config,
    )
    return {name: (direction, dtype, dims) for direction, name, dtype, dims in found}


def config(num_features: int = 0, **changes: object) -> str:
    declared = declaration(**changes)
    model = linear_model(declared, num_features=num_features)
    return triton_config("pong", onnx.load_model_from_string(model))


def test_the_configuration_names_what_the_graph_has() -> None:
    assert tensors(config(num_features=3)) == {
        "observations": ("input", "TYPE_FP32", "4"),
        "actions": ("output", "TYPE_INT64", "1"),
        "q_values": ("output", "TYPE_FP32", "2"),
        "features": ("output", "TYPE_FP32", "3"),
    }


def test_a_mask_and_frames_are_inputs_of_their_own_type() -> None:
    masked = config(
        observation=ObservationSpec(shape=(2, 2), dtype="uint8"),
        actions=ActionSpec(count=2, masked=True),
    )
    found = tensors(masked)
    assert found["observations"] == ("input", "TYPE_UINT8", "2, 2")
    assert found["action_mask"] == ("input", "TYPE_BOOL", "2")


def test_only_actions_have_no_axis_beside_the_batch() -> None:
    text = config()
    assert text.count("reshape: { shape: [ ] }") == 1
    assert text.index('"actions"') < text.index("reshape") < text.index('"q_values"')


def test_the_policy_and_its_batches_are_named() -> None:
    text = config()
    assert 'name: "pong"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 1024\n' in text
