"""Whoever is measured, up and proven: our service, the bare protocol, and the rivals."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import msgspec

from benchmarks.serving.policies import observations_of
from benchmarks.serving.processes import StartError, free_port, listens, server_process
from benchmarks.serving.rivals import decider
from benchmarks.serving.rivals.environments import program
from benchmarks.serving.rivals.table import Rival
from benchmarks.serving.rivals.wire import (
    Encode,
    Observations,
    Request,
    Wire,
    raw_bytes,
    rounded_rows,
)
from contract.manifest import ACTIONS, OBSERVATIONS
from dqn_client import new_episode_id
from service.inference.policy import open_session
from service.keys import add_key

OURS = "ours"
BARE = "bare"
PROBE = "probe"
_START_SECONDS = 120.0
_SILENCE = {"RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
"""Nothing that is measured reports home."""


@dataclass(frozen=True)
class Contender:
    """A server that runs."""

    name: str
    url: str
    pid: int
    encode: Encode
    """Observations to its fastest request."""
    key: str | None = None
    """Ours, for the calls that are not load."""


@dataclass(frozen=True)
class Site:
    """What our service and its rivals serve from."""

    data: Path
    """Our service's folder, with the policies."""
    models: dict[str, bytes]
    """Model to ONNX bytes."""

    def model_file(self, model: str) -> Path:
        """The ONNX file that every rival opens."""
        path = self.data / f"{model}.onnx"
        if not path.exists():
            path.write_bytes(self.models[model])
        return path


@contextmanager
def our_service(
    data: Path, policy: str, *, workers: int = 1, deadline_ms: float | None = None
) -> Iterator[Contender]:
    """Our service with keys, metrics and log on; yields once a model answers.

    Without the recorder, which reads the log in a process of its own and no worker waits for.
    """
    port = free_port()
    scopes = ["act", "report", "read", "operate"]
    key = add_key(data / "keys", f"benchmark-{port}", scopes)
    command = [sys.executable, "-m", "service", "--data", str(data), "--port", str(port)]
    command += ["--keys-file", str(data / "keys"), "--workers", str(workers)]
    command += ["--log-level", "warning", "--no-record"]
    if deadline_ms is not None:
        command += ["--deadline-ms", f"{deadline_ms:g}"]
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {key}"}

    def serves_model() -> bool:
        # One policy may stand while the server still waits for another, and says 503.
        if _get(f"{url}/readyz", {}) is None:
            return False
        answer = _get(f"{url}/v1/policies/{policy}", headers)
        return answer is not None and msgspec.json.decode(answer)["source"] == "model"

    with server_process(command, serves_model, _START_SECONDS) as pid:
        yield Contender(OURS, url, pid, partial(_our_request, policy, headers), key)


@contextmanager
def bare_protocol() -> Iterator[Contender]:
    """A protocol that answers a constant."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.bare", str(port)]
    with server_process(command, lambda: listens(port), _START_SECONDS) as pid:
        yield Contender(BARE, f"http://127.0.0.1:{port}", pid, partial(_our_request, "mlp", {}))


@contextmanager
def bare_probe(site: Site) -> Iterator[Contender]:
    """A protocol that runs the mlp, and does nothing else."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.probe", str(port)]
    command.append(str(site.model_file("mlp")))
    with server_process(command, lambda: listens(port), _START_SECONDS) as pid:
        yield Contender(PROBE, f"http://127.0.0.1:{port}", pid, partial(_our_request, "mlp", {}))


@contextmanager
def rival_server(rival: Rival, site: Site, model: str, workers: int = 1) -> Iterator[Contender]:
    """A rival; yields once its answer is what the model itself says.

    Raises:
        StartError: It ended, did not come up in time, or answers something else.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    name, *arguments = rival.command
    command = [program(rival, name)] + [word.format(port=port) for word in arguments]
    environment = {
        decider.MODEL_VARIABLE: str(site.model_file(model)),
        decider.PORT_VARIABLE: str(port),
        decider.WORKERS_VARIABLE: str(workers),
        **_SILENCE,
    }
    wire = rival.wires[model]
    is_up = _answers_right(url, wire, site.models[model], observations_of(model, 3))
    with server_process(command, is_up, _START_SECONDS, environment) as pid:
        yield Contender(rival.name, url, pid, wire.encode)


def _our_request(policy: str, headers: dict[str, str], observations: Observations) -> Request:
    """Raw frames, or JSON with what a reward is joined by: episode and step of every row."""
    if observations.dtype.name == "uint8":
        raw = raw_bytes(f"/v1/actions?policy={policy}")(observations)
        return Request(raw.path, raw.body, {**raw.headers, **headers})
    rows = len(observations)
    body = {
        "policy": policy,
        "observations": rounded_rows(observations),
        "episode_ids": [new_episode_id() for _ in range(rows)],
        "steps": [17] * rows,
    }
    headers = {"Content-Type": "application/json", **headers}
    return Request("/v1/actions", msgspec.json.encode(body), headers)


def _answers_right(
    url: str, wire: Wire, model: bytes, observations: Observations
) -> Callable[[], bool]:
    (expected,) = open_session(model).run([ACTIONS], {OBSERVATIONS: observations})
    request = wire.encode(observations)

    def is_up() -> bool:
        answer = _post(url, request)
        if answer is None:
            return False
        if wire.decode(answer) != expected.tolist():
            raise StartError(f"expected actions {expected.tolist()}, answered {answer[:200]!r}")
        return True

    return is_up


def _get(url: str, headers: dict[str, str]) -> bytes | None:
    try:
        response = httpx.get(url, headers=headers)
    except httpx.HTTPError:
        return None
    return response.content if response.status_code == 200 else None


def _post(url: str, request: Request) -> bytes | None:
    """The answer's body; None while there is none, or an error."""
    try:
        response = httpx.post(
            url + request.path, content=request.body, headers=dict(request.headers), timeout=10
        )
    except httpx.HTTPError:
        return None
    return response.content if response.status_code == 200 else None
