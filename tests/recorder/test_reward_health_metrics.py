import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from contract.join import Join
from contract.live_profile import write_live_profile
from contract.manifest import Manifest
from contract.records import AnsweredBy, Column
from contract.transitions import Episode
from recorder.hacking import Caught
from recorder.manifests import Manifests
from recorder.reward_health_metrics import HealthMetrics, RewardHealth
from tests.builders import decision_batch, distribution, manifest, outcome, profile, write_policy
from tests.recorder.test_hacking import reference

STABLE = {"policy": "cartpole", "variant": "stable"}


class Lived:
    """Episodes through the join into the consumer; version 3 returned 200 in training."""

    def __init__(self, **changes: Any) -> None:
        self.registry = CollectorRegistry()
        self.quarantined: list[Caught] = []
        self._changes = changes
        self._health = RewardHealth(
            HealthMetrics(self.registry), self._manifest_of, self.quarantined.append
        )
        self._join = Join()
        self._num_episodes = 0

    def _manifest_of(self, policy: str, version: int) -> Manifest | None:
        if version not in (2, 3):
            return None
        fields: dict[str, Any] = {"profile": profile(), "floor": 10.0, "version": version}
        return manifest(**(fields | self._changes))

    def episode(
        self,
        reward: float = 20.0,
        steps: int = 10,
        *,
        q_value: float = 50.0,
        version: int = 3,
        source: str = "model",
        at: float = 1000.0,
    ) -> None:
        self._num_episodes += 1
        name = f"episode-{self._num_episodes}"
        for step in range(steps):
            self._add(
                decision_batch(
                    actions=[0],
                    decision_ids=[f"{name}-{step}"],
                    episode_ids=[name],
                    steps=[step],
                    q_values=Column.of(np.array([[q_value, 0.0]], dtype=np.float16)),
                    answered_by=[AnsweredBy(version, "stable", source, None, "who")],
                    time=at + step,
                )
            )
            is_last = step == steps - 1
            self._add(
                outcome(
                    reward=reward, time=at + step, episode_id=name, step=step, terminated=is_last
                )
            )

    def _add(self, record: Any) -> None:
        for item in self._join.add(record):
            if isinstance(item, Episode):
                self._health.on_episode(item)
            else:
                self._health.on_transition(item)

    def arm(self) -> None:
        """From now on the version has a profile."""
        self._changes = {}

    def told(self, name: str, **labels: str) -> float | None:
        self._health.on_pass(0.0, self._join)
        return self.registry.get_sample_value(name, labels or STABLE)


def test_the_mean_of_recent_returns_stands_beside_training_and_floor() -> None:
    lived = Lived()
    lived.episode(reward=20.0)
    lived.episode(reward=10.0)
    assert lived.told("dqn_episode_return_recent_mean") == 150.0
    assert lived.told("dqn_episode_return_training_mean") == 200.0
    assert lived.told("dqn_episode_return_floor") == 10.0
    assert lived.told("dqn_episodes_total") == 2.0


def test_a_fall_is_told_and_returns_as_in_training_are_none() -> None:
    lived = Lived()
    for _ in range(60):
        lived.episode(reward=20.0)
    assert lived.told("dqn_reward_fall_score") == 0.0
    for _ in range(60):
        lived.episode(reward=17.0)
    threshold = lived.told("dqn_reward_fall_threshold")
    assert threshold is not None
    assert (lived.told("dqn_reward_fall_score") or 0.0) >= threshold


def test_promises_are_held_against_returns_in_the_transforms_unit() -> None:
    lived = Lived()
    for _ in range(60):
        # Ten rewards of 20, discounted by 0.99: 191.2; the promise is half as much.
        lived.episode(reward=20.0, q_value=95.6)
    assert lived.told("dqn_q_calibration_gap") == pytest.approx(-2.0, abs=0.05)


def test_each_tenth_of_the_promises_is_told_beside_what_came_of_it() -> None:
    lived = Lived()
    lived.episode()
    assert math.isnan(decile(lived, "dqn_q_calibration_decile_promise", 10))
    for promise in range(60, 1, -1):
        # Ten rewards, discounted by 0.99, come to 9.56 times one of them.
        lived.episode(reward=promise / 2, q_value=float(promise))
    lived.episode(reward=0.5, q_value=1.0)
    # With the first episode's 50 there are 61: seven in the first tenth, six in the last.
    assert decile(lived, "dqn_q_calibration_decile_promise", 1) == 4.0
    assert decile(lived, "dqn_q_calibration_decile_promise", 10) == 57.5
    assert decile(lived, "dqn_q_calibration_decile_return", 1) == pytest.approx(
        2 * 9.5618, rel=1e-4
    )


def decile(lived: Lived, name: str, number: int) -> float:
    found = lived.told(name, **STABLE, decile=str(number))
    assert found is not None
    return found


def test_a_version_that_gets_a_profile_later_is_judged_by_it_from_then_on() -> None:
    lived = Lived(profile=None)
    lived.episode(reward=3.0)
    assert lived.told("dqn_reward_fall_threshold") is None
    lived.arm()
    lived.episode(reward=20.0, at=2000.0)
    assert lived.told("dqn_reward_fall_threshold") is not None
    assert lived.told("dqn_episode_return_training_mean") == 200.0
    # What came before the profile is not held against it.
    assert lived.told("dqn_episode_return_recent_mean") == 200.0


def test_a_new_version_is_not_judged_by_what_the_old_one_promised() -> None:
    lived = Lived()
    for _ in range(60):
        lived.episode(version=2, at=1000.0)
    assert math.isfinite(lived.told("dqn_q_calibration_gap") or math.nan)
    lived.episode(version=3, at=2000.0)
    assert math.isnan(lived.told("dqn_q_calibration_gap") or 0.0)
    # One of version 2 that began before 3 did changes nothing; a rollback to 2 does.
    lived.episode(reward=0.0, version=2, at=1500.0)
    assert lived.told("dqn_episode_return_recent_mean") == 200.0
    lived.episode(reward=1.0, version=2, at=3000.0)
    assert lived.told("dqn_episode_return_recent_mean") == 10.0


def test_an_episode_that_a_heuristic_played_is_not_the_models() -> None:
    lived = Lived()
    lived.episode(source="heuristic")
    assert lived.told("dqn_episodes_total") is None


def test_a_version_without_a_profile_is_watched_without_an_expectation() -> None:
    lived = Lived(profile=None)
    lived.episode()
    assert lived.told("dqn_episode_return_recent_mean") == 200.0
    assert lived.told("dqn_reward_fall_threshold") is None


def test_a_caught_episode_is_counted_by_its_check_and_handed_on() -> None:
    armed = profile(episode_return=distribution(30.0, 5.0), conduct=reference())
    lived = Lived(profile=armed)
    lived.episode(reward=5.0, steps=100)
    assert len(lived.quarantined) == 1
    labels = {"policy": "cartpole", "test": "reward_range"}
    assert lived.told("dqn_episodes_quarantined_total", **labels) == 1.0


def test_manifests_are_read_from_the_repository_once_they_are_there(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    assert manifests.find("cartpole", 1) is None
    write_policy(tmp_path, version=1, floor=7.0)
    found = manifests.find("cartpole", 1)
    assert found is not None
    assert found.floor == 7.0
    assert found.profile is None
    write_live_profile(tmp_path / "cartpole", 1, profile())
    armed = manifests.find("cartpole", 1)
    assert armed is not None
    assert armed.profile == profile()
    assert manifests.find("cartpole", 1) is armed
