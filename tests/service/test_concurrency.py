import json
import random
from contextlib import ExitStack

import pytest

from tests.service.running import Connection, Running, post

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]


@pytest.mark.parametrize("has_lane", [True, False])
def test_hundreds_of_concurrent_requests_each_get_their_own_rows(
    service: Running, has_lane: bool
) -> None:
    chance = random.Random(3)
    port = service.port if has_lane else service.plain_port
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(port)) for _ in range(100)]
        for round_ in range(3):
            wanted = []
            for number, connection in enumerate(connections):
                actions = [chance.randrange(2) for _ in range(chance.randrange(1, 12))]
                name = f"{round_}-{number}"
                wanted.append((name, actions))
                body = {
                    "observations": [(LEFT, RIGHT)[action] for action in actions],
                    "decision_id": name,
                }
                connection.send(post("/v1/actions", body))
            for connection, (name, actions) in zip(connections, wanted, strict=True):
                answer = json.loads(connection.answer()[2])
                assert (answer["decision_id"], answer["actions"]) == (name, actions)


def test_a_good_request_is_answered_by_the_model_whatever_bad_ones_arrive_with_it(
    service: Running,
) -> None:
    bad = [
        b'{"observations": [[0, 0, 1e39, 0]]}',
        b'{"observations": [[0, 0]]}',
        b'{"observations": [[0, 0, 0, 0]], "policy": "pong"}',
        b'{"observations": ' + b"[" * 100_000,
        b"{",
    ]
    with ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _ in range(60)]
        for number, connection in enumerate(connections):
            is_good = number % 2 == 0
            body = {"observations": [RIGHT, LEFT]} if is_good else bad[number // 2 % len(bad)]
            connection.send(post("/v1/actions", body))
        for number, connection in enumerate(connections):
            status, _, body = connection.answer()
            if number % 2:
                assert 400 <= status < 500
                continue
            answer = json.loads(body)
            assert (status, answer["actions"]) == (200, [1, 0])
            assert [entry["source"] for entry in answer["answered_by"]] == ["model"]
