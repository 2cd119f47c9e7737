"""Thousands of spoiled bodies and models: no crash, no 5xx, never a number that is not one."""

import json
import math
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.bundle import Bundle, BundleError, read_bundle
from service.inference.proof import inspect_model, prove
from tests import builders
from tests.service.running import Running, post

NUM_BODIES = 10_000
NUM_MODELS = 1_000
_NUMBERS = (
    b"1e999",
    b"-1e39",
    b"NaN",
    b"null",
    b"true",
    b"1e38",
    b"[]",
    b"{}",
    b'"',
    b"-0",
    b"9" * 400,
)


def spoil(content: bytes, rng: random.Random) -> bytes:
    """Change, add, remove, repeat or cut something."""
    spoiled = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(spoiled) + 1)
        match rng.randrange(6):
            case 0 if at < len(spoiled):
                spoiled[at] = rng.randrange(256)
            case 1:
                spoiled[at:at] = rng.choice(_NUMBERS)
            case 2:
                del spoiled[at : at + rng.randint(1, 20)]
            case 3:
                spoiled[at:at] = spoiled[at : at + rng.randint(1, 60)]
            case 4 if at < len(spoiled):
                spoiled[at] ^= 1 << rng.randrange(8)
            case _ if rng.random() < 0.1:
                del spoiled[at:]
    return bytes(spoiled)


def numbers_in(value: Any) -> list[float]:
    """Every number in a decoded answer."""
    match value:
        case bool() | None | str():
            return []
        case int() | float():
            return [float(value)]
        case list():
            return [number for each in value for number in numbers_in(each)]
        case dict():
            return numbers_in(list(value.values()))
        case _:
            raise TypeError(type(value))


@pytest.mark.slow
def test_no_spoiled_body_breaks_the_service(service: Running) -> None:
    rng = random.Random(1)
    good: list[tuple[str, bytes, str]] = []
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/actions", {"observations": [[0.1, 0.2, 0.3, 0.4]], "include_q_values": True}),
        ("/v1/outcomes", {"outcomes": [{"episode_id": "e", "step": 0, "reward": 1.0}]}),
        ("/v1/episodes/e/steps", {"step": 0, "observation": [0.1, 0.2, 0.3, 0.4]}),
    )
    for path, fields in bodies:
        good.append((path, json.dumps(fields).encode(), "x: y"))
        good.append((path, msgspec.msgpack.encode(fields), "content-type: application/msgpack"))
    answered = 0
    with service.connect() as connection:
        for number in range(NUM_BODIES):
            path, body, header = good[number % len(good)]
            connection.send(post(path, spoil(body, rng), header))
            status, _, answer = connection.answer()
            assert status < 500, (path, answer)
            decoded = (
                json.loads(answer)
                if b"msgpack" not in answer and answer[:1] == b"{"
                else (msgspec.msgpack.decode(answer))
            )
            assert all(math.isfinite(number) for number in numbers_in(decoded))
            if status == 200 and path == "/v1/actions":
                answered += 1
                assert set(decoded["actions"]) <= {0, 1}
            elif status != 200:
                assert set(decoded) == {"error", "code"}
    # Else the mutants were so foul that they tried nothing.
    assert answered > 20
    assert service.act([[0.0, 0.0, 0.1, 0.0]]).status_code == 200


def verdict_of(bundle: Bundle, model: bytes) -> int:
    """What a child says of a model: 0 it may serve, 1 it may not; anything else is a crash."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            # What ONNX Runtime and protobuf print of each fault is noise here.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            inspect_model(model)
            prove(Bundle(bundle.manifest, "", model, bundle.golden))
            status = 0
        except BundleError:
            status = 1
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(waited)


@pytest.mark.slow
def test_no_spoiled_model_is_served_wrongly(tmp_path: Path) -> None:
    bundle = read_bundle(builders.write_policy(tmp_path))
    rng = random.Random(2)
    verdicts = [verdict_of(bundle, spoil(bundle.model, rng)) for _ in range(NUM_MODELS)]
    # A crash is what the child process is for: it must be seen as a refusal, never as a pass.
    assert 3 not in verdicts
    # What passes still answers its golden batch: bytes that no number depends on were changed.
    assert verdicts.count(1) > 0
    assert verdicts.count(0) < NUM_MODELS / 2
