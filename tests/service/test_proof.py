import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contract.bundle import BundleError, Golden, read_bundle
from contract.declaration import ActionSpec
from contract.manifest import ACTION_MASK, ACTIONS, OBSERVATIONS, Q_VALUES
from service.inference.proof import check_declared, inspect_model, prove, prove_in_child
from tests import builders
from tests.service import models
from tests.service.models import build, linear_constants, linear_nodes, write_model


def external_data() -> onnx.ModelProto:
    model = build(linear_nodes(), linear_constants())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return model


def foreign_domain() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gelu", [OBSERVATIONS], ["bent"], domain="com.microsoft"),
        *linear_nodes(),
    ]
    nodes[1].input[0] = "bent"
    return build(nodes, linear_constants(), domains=["com.microsoft"])


def control_flow() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", [OBSERVATIONS], ["same"])],
        "branch",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["taken"], then_branch=branch, else_branch=branch),
        *linear_nodes(),
    ]
    nodes[1].input[0] = "taken"
    return build(nodes, linear_constants() | {"yes": np.array(True)})


def own_function() -> onnx.ModelProto:
    model = build(linear_nodes(), linear_constants())
    opset = helper.make_opsetid("", builders.OPSET)
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], [node], [opset]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def sparse() -> onnx.ModelProto:
    model = build(linear_nodes(), linear_constants())
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("sparse_places", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    return model


def of_opset(opset: int) -> Callable[[], onnx.ModelProto]:
    return lambda: build(linear_nodes(), linear_constants(), opset=opset)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (external_data, "weights"),
        (foreign_domain, "com.microsoft"),
        (control_flow, "control flow (If)"),
        (own_function, "own"),
        (sparse, "sparse"),
        (of_opset(16), "opset 16; 17 to 21"),
        (of_opset(22), "opset 22; 17 to 21"),
    ],
)
def test_what_no_exporter_of_ours_writes_is_refused(
    make: Callable[[], onnx.ModelProto], said: str
) -> None:
    with pytest.raises(BundleError) as refused:
        inspect_model(make().SerializeToString())
    assert said in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"no model", builders.linear_model()[:-40]])
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx"):
        inspect_model(content)


def frozen_signature() -> onnx.ModelProto:
    return build(linear_nodes(), linear_constants(), batch=1)


def frozen_inside() -> onnx.ModelProto:
    nodes = [helper.make_node("Reshape", [OBSERVATIONS, "one_row"], ["row"]), *linear_nodes()]
    nodes[1].input[0] = "row"
    return build(nodes, linear_constants() | {"one_row": np.array([1, 4])})


def wrong_outputs() -> onnx.ModelProto:
    return build(linear_nodes(), linear_constants(), outputs=[Q_VALUES])


def wrong_input() -> onnx.ModelProto:
    model = build(linear_nodes(), linear_constants())
    model.graph.input[0].name = "x"
    model.graph.node[0].input[0] = "x"
    return model


def another_policy() -> onnx.ModelProto:
    constants = linear_constants()
    constants["bias"] += np.float32(0.001)
    return build(linear_nodes(), constants)


def not_the_argmax() -> onnx.ModelProto:
    first, second = linear_nodes()
    second.op_type = "ArgMin"
    return build([first, second], linear_constants())


def depends_on_its_batch() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gemm", [OBSERVATIONS, "weights", "bias"], ["linear"], transB=1),
        helper.make_node("Shape", [OBSERVATIONS], ["rows"], end=1),
        helper.make_node("Cast", ["rows"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["count", "five"], ["others"]),
        helper.make_node("Add", ["linear", "others"], [Q_VALUES]),
        helper.make_node("ArgMax", [Q_VALUES], [ACTIONS], axis=1, keepdims=0),
    ]
    # Right for the golden batch, which has five rows.
    return build(nodes, linear_constants() | {"five": np.array([5.0], dtype=np.float32)})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (frozen_signature, "free batch axis"),
        (frozen_inside, "cartpole v1: the model does not run"),
        (wrong_outputs, "the model gives ['q_values'], expected actions and q_values"),
        (wrong_input, "the model takes ['x'], expected ['observations']"),
        (another_policy, "differ from the golden batch by 0.00"),
        (not_the_argmax, "actions are not the argmax"),
        (depends_on_its_batch, "depend on the size of the batch"),
    ],
)
def test_a_model_that_does_not_answer_as_promised_is_refused(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], said: str
) -> None:
    bundle = read_bundle(write_model(tmp_path, make()))
    with pytest.raises(BundleError) as refused:
        prove(bundle)
    assert said in str(refused.value)


def test_a_model_that_gives_nan_for_its_golden_batch_is_refused(tmp_path: Path) -> None:
    golden = models.root_golden()
    negative = Golden(-golden.observations, golden.q_values)
    bundle = read_bundle(write_model(tmp_path, models.root_model(), negative))
    with pytest.raises(BundleError, match="golden batch by nan"):
        prove(bundle)


def test_a_model_that_ignores_the_mask_is_refused(tmp_path: Path) -> None:
    declared = builders.declaration(actions=ActionSpec(count=2, masked=True))
    model = build(linear_nodes(), linear_constants())
    model.graph.input.append(helper.make_tensor_value_info(ACTION_MASK, TensorProto.BOOL, ["N", 2]))
    bundle = read_bundle(write_model(tmp_path, model, declared=declared))
    with pytest.raises(BundleError, match="ignores the mask"):
        prove(bundle)


def test_a_masked_model_that_obeys_passes(tmp_path: Path) -> None:
    declared = builders.declaration(actions=ActionSpec(count=2, masked=True))
    policy = prove(read_bundle(builders.write_policy(tmp_path, declared)))
    right = np.array([[0.0, 0.0, 0.1, 0.0]], dtype=np.float32)
    assert policy.decide(right).actions.tolist() == [1]
    assert policy.decide(right, np.array([[True, False]])).actions.tolist() == [0]


def test_the_child_says_what_it_refuses_and_lets_the_rest_pass(tmp_path: Path) -> None:
    foul = read_bundle(write_model(tmp_path / "foul", not_the_argmax()))
    good = read_bundle(builders.write_policy(tmp_path / "good"))

    async def scenario() -> None:
        with pytest.raises(BundleError, match="cartpole v1: actions are not the argmax"):
            await prove_in_child(foul)
        await prove_in_child(good)

    asyncio.run(scenario())


def test_a_bundle_that_disagrees_with_its_policys_declaration_is_refused(tmp_path: Path) -> None:
    bundle = read_bundle(builders.write_policy(tmp_path))
    check_declared(bundle, builders.declaration())
    with pytest.raises(BundleError, match="actions"):
        check_declared(bundle, builders.declaration(actions=ActionSpec(count=2)))
