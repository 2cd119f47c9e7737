"""ONNX files of others: cut to what gives the Q-values, refused where they may not be served."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn

from contract.declaration import read_declaration
from exporter.adoption.source import AdoptionError
from tests.exporter.adoption.adopting import adopt_file, served, served_q_values
from tests.exporter.adoption.sources import (
    onnx_network,
    perceptron,
    q_values_of,
    vectors,
    write_npz,
)

ROOT = Path(__file__).parents[2]
DECLARATION = """
[observation]
shape = [2, 2]
frame_stack = 2
dtype = "float64"
[actions]
masked = true
labels = ["left", "stay", "right"]
[heuristic]
kind = "constant"
action = 1
"""


def write(folder: Path, content: bytes) -> Path:
    path = folder / "policy.onnx"
    path.write_bytes(content)
    return path


def adopt_onnx(folder: Path, content: bytes, **flags: Any) -> Path:
    return adopt_file(write(folder, content), **({"discount": 0.99} | flags))


def changed(content: bytes, change: Any) -> bytes:
    model = onnx.load_model_from_string(content)
    change(model)
    result: bytes = model.SerializeToString()
    return result


def expected_q_values() -> Any:
    return q_values_of(perceptron(), vectors())


@pytest.mark.parametrize("opset", [11, 18, 21])
def test_opsets_old_and_new_answer_alike(tmp_path: Path, opset: int) -> None:
    directory = adopt_onnx(tmp_path, onnx_network(perceptron(), opset=opset))
    found = served_q_values(directory, vectors())
    np.testing.assert_allclose(found, expected_q_values(), atol=1e-5)


def test_who_reads_onnx_imports_no_torch() -> None:
    code = "import sys; sys.modules.update(torch=None); import exporter.adoption.onnx_source"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_graph_traced_with_one_observation_and_giving_actions_only_is_opened(
    tmp_path: Path,
) -> None:
    content = onnx_network(perceptron(), opset=11, is_traced=True, batch=1)
    found = served_q_values(adopt_onnx(tmp_path, content), vectors())
    np.testing.assert_allclose(found, expected_q_values(), atol=1e-5)


def test_a_batch_axis_frozen_beyond_opening_is_refused(tmp_path: Path) -> None:
    def freeze(model: onnx.ModelProto) -> None:
        # An Expand to one row fails on any other number of rows.
        model.graph.initializer.append(helper.make_tensor("rows", TensorProto.INT64, [2], [1, 3]))
        nodes = model.graph.node
        nodes[-1].CopyFrom(helper.make_node("Reshape", ["h4", "rows2"], ["q"]))
        nodes.insert(len(nodes) - 1, helper.make_node("Add", ["rows", "rows"], ["double"]))
        nodes.insert(len(nodes) - 1, helper.make_node("Sub", ["double", "rows"], ["rows2"]))

    content = changed(onnx_network(perceptron(), batch=1), freeze)
    with pytest.raises(AdoptionError, match="dynamic batch axis"):
        adopt_onnx(tmp_path, content)


def test_stack_dtype_and_mask_are_as_declared(tmp_path: Path) -> None:
    template = tmp_path / "template.toml"
    template.write_text(DECLARATION, encoding="utf-8")
    directory = adopt_onnx(
        tmp_path, onnx_network(perceptron()), declaration=template, heuristic=None, frame_stack=2
    )
    policy = served(directory)
    observations = vectors().astype(np.float64).reshape(-1, 2, 2)
    best = expected_q_values().argmax(axis=1)
    masks = np.ones((len(best), 3), dtype=np.bool_)
    masks[np.arange(len(best)), best] = False
    decided = policy.decide(observations, masks)
    np.testing.assert_allclose(decided.q_values, expected_q_values(), atol=1e-5)
    legal = np.where(masks, expected_q_values(), -np.inf)
    np.testing.assert_array_equal(decided.actions, legal.argmax(axis=1))
    assert read_declaration(directory.parent).actions.labels == ("left", "stay", "right")


def test_a_tensor_that_is_no_output_can_be_named(tmp_path: Path) -> None:
    content = onnx_network(perceptron(), last_node="Softmax")
    directory = adopt_onnx(tmp_path, content, q_output="h4")
    found = served_q_values(directory, vectors())
    np.testing.assert_allclose(found, expected_q_values(), atol=1e-5)


def test_probabilities_are_not_taken_for_q_values(tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match="probabilities"):
        adopt_onnx(tmp_path, onnx_network(perceptron(), last_node="Softmax"))


def test_two_outputs_that_may_be_q_values_must_be_told_apart(tmp_path: Path) -> None:
    def add_output(model: onnx.ModelProto) -> None:
        model.graph.output.append(helper.make_tensor_value_info("h4", TensorProto.FLOAT, [None, 3]))

    with pytest.raises(AdoptionError, match="--q-output"):
        adopt_onnx(tmp_path, changed(onnx_network(perceptron()), add_output))


def test_names_of_a_bundle_may_be_used_inside(tmp_path: Path) -> None:
    content = onnx_network(perceptron(), output="observations")
    found = served_q_values(adopt_onnx(tmp_path, content), vectors())
    np.testing.assert_allclose(found, expected_q_values(), atol=1e-5)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.elsewhere", 1))
    model.graph.node[-1].domain = "com.elsewhere"


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 8]))


def branching(model: onnx.ModelProto) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["h4"], ["branch_q"])],
        "branch",
        [],
        [helper.make_tensor_value_info("branch_q", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    node = helper.make_node("If", ["yes"], ["q"], then_branch=branch, else_branch=branch)
    model.graph.node[-1].CopyFrom(node)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (external, "another file"),
        (foreign, r"com\.elsewhere"),
        (second_input, "one input"),
        (branching, "control flow"),
    ],
)
def test_what_may_not_be_served_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(AdoptionError, match=says):
        adopt_onnx(tmp_path, changed(onnx_network(perceptron()), change))


def test_observations_of_open_size_are_refused(tmp_path: Path) -> None:
    def open_sizes(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "elements"

    with pytest.raises(AdoptionError, match=r"input_0 has sizes \[0, 0\]"):
        adopt_onnx(tmp_path, changed(onnx_network(perceptron()), open_sizes))


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x00" * 64])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(AdoptionError, match="not an ONNX model"):
        adopt_onnx(tmp_path, content)


def test_answers_of_the_library_that_differ_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, onnx_network(perceptron()))
    right = write_npz(tmp_path / "right.npz", observations=vectors(), q_values=expected_q_values())
    wrong = write_npz(tmp_path / "wrong.npz", observations=-vectors(), q_values=expected_q_values())
    with pytest.raises(Exception, match=r"wrong\.npz"):
        adopt_file(source, discount=0.99, reference=wrong)
    assert not (tmp_path / "policies" / "adopted").exists()
    card = adopt_file(source, discount=0.99, reference=right) / "card.md"
    assert "held to Q-values that the library itself gave" in card.read_text(encoding="utf-8")


def test_a_perceptron_of_another_shape_is_not_the_same_policy(tmp_path: Path) -> None:
    adopt_onnx(tmp_path, onnx_network(perceptron()))
    wider = nn.Sequential(nn.Linear(4, 5))
    with pytest.raises(AdoptionError, match="5 Q-values, 3 actions"):
        adopt_onnx(tmp_path, onnx_network(wider))
