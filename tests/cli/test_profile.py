"""A version that came without a profile, armed by what it did while it served."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cli.__main__ import main
from contract.ledger import LEDGER_FILE, FileLedger
from contract.live_profile import LiveProfiles, live_profile_path
from contract.manifest import Profile
from contract.profile import Played, sum_up
from recorder.dataset.quarantine import add_quarantine
from recorder.dataset.store import DatasetStore
from recorder.manifests import Manifests
from recorder.seal import Sealer
from recorder.sources import Spools
from tests import builders
from tests.service.running import Running, promote, running, settings_for, wait_until

NUM_EPISODES, STEPS = 24, 30
WINDOW = 200


def observations_of(rng: np.random.Generator, shift: float = 0.0) -> npt.NDArray[np.float32]:
    drawn = rng.normal(size=(STEPS, 4)).astype(np.float32)
    drawn[:, 2] += shift
    return drawn


def live(
    service: Running, observed: npt.NDArray[np.float32], name: str, source: str = "model"
) -> list[int]:
    """One whole episode, whose rewards are 2."""
    fields = {"episode_ids": [name] * STEPS, "steps": list(range(STEPS))}
    answer = service.act(observed.tolist(), **fields)
    assert answer.json()["answered_by"][0]["source"] == source, answer.text
    outcomes: list[dict[str, Any]] = [
        {"episode_id": name, "step": step, "reward": 2.0} for step in range(STEPS)
    ]
    outcomes[-1]["terminated"] = True
    assert service.client.post("/v1/outcomes", json={"outcomes": outcomes}).is_success
    actions: list[int] = answer.json()["actions"]
    return actions


def seal(data: Path) -> None:
    sources = Spools(data / "spool")
    Sealer(data / "shards", sources, 2**20, "test").seal(1.0)
    sources.close()


def profile_verb(service: Running, data: Path, *flags: str) -> int:
    server = f"http://127.0.0.1:{service.port}"
    asked = ["profile", builders.POLICY, "--from-live", "7d", "--why", "adopted without one"]
    return main([*asked, f"--server={server}", f"--data={data}", *flags])


@pytest.fixture
def adopted(tmp_path: Path) -> Path:
    builders.write_policy(tmp_path / "policies", version=3, num_features=2, q_bound=None)
    promote(tmp_path, 3)
    return tmp_path


def test_what_a_version_did_live_arms_its_alerts(
    adopted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(5)
    settings = settings_for(adopted, drift_window_rows=WINDOW, drift_window_seconds=1e-6)
    with running(settings) as service:
        assert service.client.get("/v1/policies/cartpole").json()["profile"] is None
        assert service.metric("dqn_drift_armed", policy="cartpole") == 0
        observed = [observations_of(rng) for _ in range(NUM_EPISODES)]
        actions = [live(service, each, f"e{n}") for n, each in enumerate(observed)]
        seal(adopted)

        assert profile_verb(service, adopted) == 0
        told = capsys.readouterr().out
        assert f"{NUM_EPISODES} episodes of {NUM_EPISODES * STEPS} steps" in told
        assert "4 observation elements, 2 features, 2 Q-values" in told

        described = service.client.get("/v1/policies/cartpole").json()
        assert described["profile"] == "live"
        assert described["drift"]["armed"]
        assert service.metric("dqn_drift_armed", policy="cartpole") == 1
        labels = {"policy": "cartpole", "variant": "stable"}
        assert service.metric("dqn_q_value_training_max", **labels) < 100

        # The judgement is of the profile that an export makes of the same episodes.
        profile = LiveProfiles(adopted / "policies").find("cartpole", 3)
        assert profile == expected_profile(np.concatenate(observed), np.concatenate(actions))
        armed = Manifests(adopted / "policies").find("cartpole", 3)
        assert armed is not None
        assert armed.profile == profile

        entry = FileLedger(adopted / "policies" / LEDGER_FILE).read_after(0)[-1]
        assert (entry.action, entry.version, entry.why) == ("profile", 3, "adopted without one")
        assert entry.details["episodes"] == NUM_EPISODES

        drifted = drift_after(service, lambda: observations_of(rng, shift=3.0))
        assert drifted[0] in ("observation[2]", "q_value[0]", "q_value[1]")


def drift_after(service: Running, observe: Any) -> list[str]:
    """What is found to have drifted, once a window is full of this."""

    def worst() -> list[str]:
        for _ in range(50):
            service.act(observe().tolist())
        told = service.client.get("/v1/policies/cartpole").json()["drift"]
        names: list[str] = told["drifted"]
        return names

    wait_until(lambda: bool(worst()), "drift")
    return worst()


def expected_profile(observed: npt.NDArray[np.float32], actions: npt.NDArray[np.int64]) -> Profile:
    q_values = observed @ np.array(builders.WEIGHTS, np.float32).T + np.array(
        builders.BIAS, np.float32
    )
    played = Played(
        observations=observed,
        cells=None,
        q_values=q_values,
        features=observed[:, :2],
        actions=actions,
        rewards=np.full(len(observed), 2.0),
        returns=np.full(NUM_EPISODES, 2.0 * STEPS),
        lengths=np.full(NUM_EPISODES, STEPS),
    )
    return sum_up(played, None)


def test_too_few_episodes_arm_nothing_and_what_was_left_out_is_said(
    adopted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(5)
    with running(settings_for(adopted)) as service:
        for number in range(20):
            live(service, observations_of(rng), f"e{number}")
        add_quarantine(
            DatasetStore(adopted / "datasets"),
            "cartpole",
            begin=0.0,
            end=9e9,
            who="ada",
            why="a test",
            now=1.0,
            episode_id="e7",
        )
        service.act([[0.0] * 4], episode_ids=["never ended"], steps=[0])
        assert service.client.post("/v1/policies/cartpole/pin", json={"why": "x"}).is_success
        live(service, observations_of(rng), "pinned", source="heuristic")
        seal(adopted)
        assert profile_verb(service, adopted) == 1
        told = capsys.readouterr().err
        assert "expected 20 whole episodes in the log, found 19" in told
        assert "1 quarantined" in told
        assert "1 of the heuristic" in told
        assert service.metric("dqn_drift_armed", policy="cartpole") == 0
        labels = {"policy": "cartpole", "variant": "stable"}
        assert math.isnan(service.metric("dqn_q_value_training_max", **labels))
    assert not live_profile_path(adopted / "policies" / "cartpole", 3).exists()


def test_a_bundle_that_has_a_profile_keeps_it(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "policies", profile=builders.profile())
    promote(tmp_path)
    body = {"why": "x", "version": 1, "profile": json.loads(builders.profile().model_dump_json())}
    with running(settings_for(tmp_path)) as service:
        answer = service.client.post("/v1/policies/cartpole/profile", json=body)
        assert answer.status_code == 409
        assert "a profile of its own" in answer.text
        assert service.client.get("/v1/policies/cartpole").json()["profile"] == "bundle"


def test_a_profile_of_something_else_is_refused(adopted: Path) -> None:
    lengths = np.full(20, 2)
    played = Played(
        observations=np.zeros((40, 3)),
        cells=None,
        q_values=np.zeros((40, 2), np.float32),
        features=np.zeros((40, 2), np.float32),
        actions=np.zeros(40, np.int64),
        rewards=np.ones(40),
        returns=np.ones(20),
        lengths=lengths,
    )
    profile = json.loads(sum_up(played, None).model_dump_json())
    body = {"why": "x", "version": 3, "profile": profile}
    with running(settings_for(adopted)) as service:
        answer = service.client.post("/v1/policies/cartpole/profile", json=body)
    assert answer.status_code == 422
    assert "observation elements: expected 4, found 3" in answer.text
