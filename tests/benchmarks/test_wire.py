"""Bodies as the rivals read them."""

from base64 import b64decode

import msgspec
import numpy as np

from benchmarks.serving.rivals.wire import (
    base64_in_json,
    json_rows,
    open_inference_binary,
    open_inference_json,
    read_first_output,
)

FRAMES = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
ROWS = np.array([[0.1, -0.25], [3.0, 4.5]], dtype=np.float32)


def test_a_float32_is_written_as_short_as_a_client_writes_it() -> None:
    assert json_rows("/", "rows")(ROWS).body == b'{"rows":[[0.1,-0.25],[3.0,4.5]]}'


def test_binary_tensors_follow_a_head_of_the_length_told() -> None:
    request = open_inference_binary("/")(FRAMES)
    length = int(request.headers["Inference-Header-Content-Length"])
    (tensor,) = msgspec.json.decode(request.body[:length])["inputs"]
    assert (tensor["shape"], tensor["datatype"]) == ([2, 3, 5], "UINT8")
    assert tensor["parameters"]["binary_data_size"] == 30
    assert request.body[length:] == FRAMES.tobytes()


def test_protocol_json_is_flat_in_c_order() -> None:
    (tensor,) = msgspec.json.decode(open_inference_json("/")(ROWS).body)["inputs"]
    assert (tensor["shape"], tensor["data"]) == ([2, 2], [0.1, -0.25, 3.0, 4.5])


def test_a_list_of_frames_has_one_string_an_observation() -> None:
    frames = msgspec.json.decode(base64_in_json("/", "frames", as_list=True)(FRAMES).body)["frames"]
    assert [b64decode(frame) for frame in frames] == [FRAMES[0].tobytes(), FRAMES[1].tobytes()]


def test_actions_in_a_protocols_answer_are_integers() -> None:
    answer = b'{"outputs":[{"name":"actions","data":[2.0,0.0]},{"data":[9]}]}'
    assert read_first_output(answer) == [2, 0]
