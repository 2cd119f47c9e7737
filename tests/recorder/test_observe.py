import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contract.join import Join, JoinRules
from contract.records import AnsweredBy, Record, encode_record
from contract.transitions import Episode, Transition
from recorder.metrics import RecorderMetrics
from recorder.observe import CHECKPOINT_FILE, Observer
from recorder.reward_metrics import RewardMetrics
from recorder.seal import read_sealable
from recorder.shard_log import ShardLog
from recorder.shards import UNNAMED, Entry, ShardError, shard_path
from tests.builders import decision_batch, outcome

CANARY = AnsweredBy(8, "canary", "model", None, "cartpole@8")
HEURISTIC = AnsweredBy(8, "stable", "heuristic", "deadline", "heuristic/constant@1")


class Told:
    """A consumer that remembers."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.episodes: list[Episode] = []

    def on_transition(self, transition: Transition) -> None:
        self.transitions.append(transition)

    def on_episode(self, episode: Episode) -> None:
        self.episodes.append(episode)

    def on_pass(self, now: float, join: Join) -> None:
        pass


class Log:
    """Seals records as a recorder would, a shard a call."""

    def __init__(self, shards: Path) -> None:
        self.shards = shards
        self._sequence = 0

    def seal(self, *records: Record, now: float = 2000.0) -> None:
        groups: dict[str, list[Entry]] = {}
        for record in records:
            self._sequence += 1
            entry = Entry("worker", self._sequence % 16, self._sequence, encode_record(record))
            groups.setdefault(read_sealable(entry)[0], []).append(entry)
        for policy, entries in groups.items():
            sealables = [read_sealable(entry)[1] for entry in entries]
            ShardLog(self.shards, policy).append(sealables, now, "me")


def decide(episode_id: str, step: int, time: float = 1000.0, **changes: object) -> Record:
    fields = {"decision_ids": [f"{episode_id}-{step}"], "time": time} | changes
    return decision_batch(episode_ids=[episode_id], steps=[step], **fields)  # type: ignore[arg-type]


def report(episode_id: str, step: int, reward: float, **changes: object) -> Record:
    return outcome(reward, episode_id=episode_id, step=step, **changes)  # type: ignore[arg-type]


def returns(told: Told) -> list[tuple[str, float]]:
    return [(episode.episode_id, episode.episode_return) for episode in told.episodes]


def observer(shards: Path, *told: Told, **rules: float) -> Observer:
    return Observer(shards, JoinRules(**rules), told)  # type: ignore[arg-type]


def test_what_is_sealed_is_told_once_in_order(tmp_path: Path) -> None:
    log, told = Log(tmp_path), Told()
    watching = observer(tmp_path, told)
    log.seal(decide("e", 0), report("e", 0, 1.0))
    assert watching.follow(2001.0) == 1
    log.seal(decide("e", 1), report("e", 1, 2.0, terminated=True))
    assert watching.follow(2002.0) == 1
    assert watching.follow(2003.0) == 0
    assert [transition.reward for transition in told.transitions] == [1.0, 2.0]
    assert returns(told) == [("e", 3.0)]


def test_an_outcome_by_decision_id_meets_its_decision_over_partitions_and_policies(
    tmp_path: Path,
) -> None:
    log, told = Log(tmp_path), Told()
    # Each record gets another partition; the outcome names no policy, so another folder too.
    log.seal(decide("e", 0))
    log.seal(outcome(5.0, policy=None, decision_id="e-0", terminated=True))
    assert (tmp_path / UNNAMED).is_dir()
    observer(tmp_path, told).follow(2001.0)
    assert returns(told) == [("e", 5.0)]


def test_a_restart_tells_nothing_twice_and_loses_no_open_episode(tmp_path: Path) -> None:
    log, told = Log(tmp_path), Told()
    log.seal(decide("old", 0), report("old", 0, 7.0, terminated=True), now=1500.0)
    log.seal(decide("e", 0, time=1990.0), report("e", 0, 1.0, time=1991.0), now=2000.0)
    log.seal(decide("f", 0, time=2100.0), report("f", 0, 3.0, terminated=True), now=2110.0)
    for step in (1, 2, 3):
        observer(tmp_path, told).follow(3000.0)
        log.seal(decide("e", step, time=3000.0 + step), now=3010.0 + step)
        log.seal(
            report("e", step, 2.0**step, time=3001.0 + step, terminated=step == 3),
            now=3011.0 + step,
        )
    observer(tmp_path, told).follow(3100.0)
    assert returns(told) == [("old", 7.0), ("f", 3.0), ("e", 15.0)]
    assert sorted(transition.reward for transition in told.transitions) == [1, 2, 3, 4, 7, 8]


def test_without_its_checkpoint_everything_is_built_anew(tmp_path: Path) -> None:
    log, first, second = Log(tmp_path), Told(), Told()
    rng = random.Random(5)
    records = [
        record
        for number in range(20)
        for step in range(3)
        for record in (
            decide(f"e{number}", step),
            report(f"e{number}", step, float(step), terminated=step == 2),
        )
    ]
    rng.shuffle(records)
    watching = observer(tmp_path, first)
    for start in range(0, len(records), 7):
        log.seal(*records[start : start + 7])
        watching.follow(2001.0)
    (tmp_path / CHECKPOINT_FILE).unlink()
    observer(tmp_path, second).follow(9000.0)
    assert returns(second) == returns(first)
    assert len(returns(first)) == 20


@pytest.mark.parametrize("content", [b"", b"{", b'{"positions": 1}'])
def test_a_checkpoint_that_cannot_be_read_is_built_anew(tmp_path: Path, content: bytes) -> None:
    log, told = Log(tmp_path), Told()
    log.seal(decide("e", 0), report("e", 0, 1.0, terminated=True))
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    observer(tmp_path, told).follow(2001.0)
    assert returns(told) == [("e", 1.0)]


def test_an_episode_is_not_silent_while_the_log_was_away(tmp_path: Path) -> None:
    log, told = Log(tmp_path), Told()
    watching = observer(tmp_path, told, episode_timeout_seconds=60.0)
    log.seal(decide("e", 0, time=1000.0), report("e", 0, 1.0, time=1001.0), now=1002.0)
    watching.follow(1003.0)
    # Sealed two hours late: by the records' times no minute passed without a word.
    log.seal(
        decide("e", 1, time=1030.0), report("e", 1, 2.0, time=1050.0, terminated=True), now=8000.0
    )
    watching.follow(8001.0)
    assert [(each.episode_return, each.ending) for each in told.episodes] == [(3.0, "terminated")]


def test_a_silent_episode_is_closed_though_nothing_comes_any_more(tmp_path: Path) -> None:
    log, told = Log(tmp_path), Told()
    watching = observer(tmp_path, told, episode_timeout_seconds=60.0)
    log.seal(decide("e", 0, time=1000.0), report("e", 0, 1.0, time=1001.0), now=1002.0)
    watching.follow(1061.0)
    watching.follow(1061.0)
    assert told.episodes == []
    watching.follow(1061.1)
    assert [each.ending for each in told.episodes] == ["timed_out"]


def test_a_damaged_shard_is_told_of(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.seal(decide("e", 0))
    path = shard_path(tmp_path / "cartpole" / "raw", 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShardError):
        observer(tmp_path, Told()).follow(2001.0)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def told_metrics(shards: Path, records: Sequence[Record]) -> CollectorRegistry:
    metrics = RecorderMetrics()
    Log(shards).seal(*records)
    rules = JoinRules(episode_timeout_seconds=60.0)
    watching = Observer(shards, rules, [RewardMetrics(metrics)])
    watching.follow(2001.0)
    watching.follow(2002.0)
    return metrics.registry


def test_rewards_and_returns_are_told_by_policy_and_variant(tmp_path: Path) -> None:
    found = told_metrics(
        tmp_path,
        [
            decide("e", 0, answered_by=[HEURISTIC]),
            decide("e", 1, answered_by=[CANARY]),
            report("e", 0, -4.0, time=1002.5),
            report("e", 1, 12.0, terminated=True),
            decide("cut", 0),
            report("cut", 0, 100.0),
        ],
    )
    canary = {"policy": "cartpole", "variant": "canary"}
    stable = {"policy": "cartpole", "variant": "stable"}
    assert sample(found, "dqn_reward_sum", **canary) == 12.0
    assert sample(found, "dqn_reward_count", **stable) == 2
    # Of one decision that a heuristic took, the episode is the canary's all the same.
    assert sample(found, "dqn_episode_return_sum", **canary) == 8.0
    # What was cut short has no return to speak of.
    assert sample(found, "dqn_episode_return_count", **stable) == 0
    assert sample(found, "dqn_outcome_lag_seconds_sum", policy="cartpole") == 2.5 + 1.0 + 1.0


def test_outcomes_are_told_by_what_became_of_them_and_as_a_ratio(tmp_path: Path) -> None:
    found = told_metrics(
        tmp_path,
        [
            *(decide("e", step) for step in range(4)),
            report("e", 0, 1.0),
            report("e", 0, 1.0),
            outcome(decision_id="never", time=1000.0),
        ],
    )
    results = {
        result: sample(found, "dqn_outcomes_total", result=result)
        for result in ("joined", "duplicate", "late", "unknown")
    }
    assert results == {"joined": 1, "duplicate": 1, "late": 0, "unknown": 1}
    assert sample(found, "dqn_join_ratio", policy="cartpole") == 0.25
