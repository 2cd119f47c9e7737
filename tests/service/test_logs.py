"""What the service's log says of decisions, and what it never says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from contract.heuristics import PythonHeuristic
from service.logs import describe_failure
from tests import builders
from tests.service.process import Process, process
from tests.service.running import promote

SEEN = 7654.321
"""Nothing else in a log looks like it."""


def events(service: Process) -> list[dict[str, Any]]:
    """Every line of the log, each of which is JSON."""
    return [json.loads(line) for line in service.log().splitlines()]


def named(service: Process, event: str) -> list[dict[str, Any]]:
    return [each for each in events(service) if each["event"] == event]


def test_faults_name_their_decisions_and_no_line_holds_an_observation(tmp_path: Path) -> None:
    function = "tests.service.heuristics:quotes_what_it_saw"
    declared = builders.declaration(heuristic=PythonHeuristic(function=function))
    # Of what is seen below all Q-values are beyond the bound.
    builders.write_policy(tmp_path / "policies", declared, q_bound=1.0)
    promote(tmp_path)
    seen = [SEEN, -SEEN, SEEN, SEEN]
    flags = (f"--allowed-heuristics={json.dumps([function])}", "--log-level=debug")
    with process(tmp_path, *flags, PYTHONPATH=str(Path.cwd())) as service:
        service.wait_until_ready()
        body = {"observations": [seen, seen], "decision_id": "odd"}
        answer = service.client.post("/v1/actions", json=body).json()
        assert answer["answered_by"][0]["reason"] == "q_bound"
        step = {"step": 0, "observation": seen}
        assert service.client.post("/v1/episodes/e/steps", json=step).is_success
        wrong: list[dict[str, Any]] = [
            {"observations": [[SEEN] * 3]},
            {"observations": [[SEEN, "x", SEEN, SEEN]]},
            {"observations": [[SEEN, SEEN, SEEN, 1e300]]},
            {"observations": {"a": SEEN}},
            {"observations": [seen], "steps": [SEEN]},
        ]
        for each in wrong:
            for path in ("/v1/actions", "/v1/transitions", "/v2/models/cartpole/infer"):
                service.client.post(path, json=each)
        assert service.stop() == 0
        (told, *_) = named(service, "heuristic_answered")
        assert told["reason"] == "q_bound"
        assert told["decisions"] == ["odd/0", "odd/1"]
        assert (told["policy"], told["version"], told["rows"]) == ("cartpole", 1, 2)
        failures = named(service, "heuristic_failed")
        assert "quotes_what_it_saw" in failures[0]["error"]
        assert "7654" not in service.log()


def test_a_failure_is_described_by_its_place_and_not_by_its_message() -> None:
    def fails(observation: npt.NDArray[np.float64]) -> None:
        raise ValueError(f"cannot act on {observation}")

    with pytest.raises(ValueError, match="7654") as caught:
        fails(np.array([SEEN]))
    told = describe_failure(caught.value)
    assert told.startswith("ValueError in ")
    assert f"in fails ({__file__}:" in told
    assert "7654" not in told
