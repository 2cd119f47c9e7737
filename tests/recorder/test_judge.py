from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest

from contract.assignment import assign
from contract.fold import fold
from contract.join import Join
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from contract.plan import RolloutPlan
from contract.records import AnsweredBy
from contract.rollout import PolicyState
from contract.transitions import Episode
from recorder.judge import LEASE_SECONDS, Judge
from tests.builders import decision_batch

POLICY = "cartpole"
START = 1_790_000_000.0
PLAN = {
    "stages": [
        {"share": 0.2, "hold_seconds": 100, "minimum_blocks": 10},
        {"share": 0.5, "hold_seconds": 100, "minimum_blocks": 10},
    ],
    "mode": "auto",
    "return_range": [0, 100],
}


class Scene:
    """A ledger with a canary of version 2, and episodes that end as a test says."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.ledger = FileLedger(folder / LEDGER_FILE)
        self.now = START
        self.open_since: float | None = None
        self.others_since: float | None = None
        """Another policy's episode, and a decision of this one without an episode."""
        self.generator = np.random.default_rng(4)
        self.write("promote", 1)
        plan = RolloutPlan.model_validate(PLAN | changes).model_dump(mode="json")
        self.write("canary", 2, rollout_id="r1", plan=plan)
        self.now += 2

    def write(self, action: str, version: int | None = None, **details: Any) -> None:
        entry = Entry(
            action=action,
            policy=POLICY,
            version=version,
            who="operator",
            why="a test",
            at=self.at(),
            details=details,
        )
        append_latest(self.ledger, entry)

    def at(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).isoformat()

    def judge(self, who: str = "judge a") -> Judge:
        return Judge(_Timed(self.ledger, self), self.folder / "evidence", who)

    def state(self) -> PolicyState:
        return fold(FileLedger(self.folder / LEDGER_FILE).read_after(0), {})[POLICY]

    def actions(self) -> list[str]:
        entries = FileLedger(self.folder / LEDGER_FILE).read_after(0)
        return [each.action for each in entries if each.action != "evidence"]

    def episodes(self, count: int, stable: float = 60.0, canary: float = 60.0) -> Iterator[Episode]:
        """One a second, answered by whom the ledger says."""
        state = self.state()
        for _ in range(count):
            self.now += 1
            name = self.name(self.now)
            version, variant, _ = assign(state.splits, name, self.now)
            mean = canary if variant == "canary" else stable
            yield self.episode(name, mean + float(self.generator.normal(0, 5)), version, variant)

    def name(self, began_at: float) -> str:
        """A version 7 UUID that is the same in every run."""
        number = int(self.generator.integers(2**60))
        value = int(began_at * 1000) << 80 | 7 << 76 | 2 << 62 | number
        return str(UUID(int=value))

    def episode(
        self, name: str, earned: float, version: int | None, variant: str, *more: int
    ) -> Episode:
        who = tuple(
            AnsweredBy(each, variant, "model", None, f"{POLICY}@{each}")
            for each in (version, *more)
        )
        return Episode(
            policy=POLICY,
            episode_id=name,
            ending="terminated",
            rewards=(earned,),
            is_complete=True,
            answered_by=who,
            started_at=self.now,
            ended_at=self.now,
        )

    def tell(self, judge: Judge, episodes: Iterator[Episode]) -> None:
        for episode in episodes:
            judge.on_episode(episode)
        self.now += 1
        judge.on_pass(self.now, self.join())

    def join(self) -> Join:
        """What the judge's own join holds: an episode that is still open, if the test has one."""
        join = Join()
        for since, policy, episode_id in [
            (self.open_since, POLICY, "open"),
            (self.others_since, "another", "open too"),
            (self.others_since, POLICY, None),
        ]:
            if since is not None:
                name = f"{policy}-{episode_id}"
                join.add(
                    decision_batch(
                        policy=policy,
                        time=since,
                        decision_ids=[name],
                        episode_ids=[episode_id],
                        steps=[None if episode_id is None else 0],
                    )
                )
        return join


class _Timed:
    """The ledger, with entries dated by the scene's clock."""

    def __init__(self, ledger: FileLedger, scene: Scene) -> None:
        self._ledger = ledger
        self._scene = scene

    @property
    def generation(self) -> int:
        return self._ledger.generation

    @property
    def fault(self) -> str | None:
        return self._ledger.fault

    @property
    def position(self) -> int:
        return self._ledger.position

    def read_after(self, position: int) -> list[Entry]:
        return self._ledger.read_after(position)

    def append(self, entry: Entry, after: int) -> Entry:
        return self._ledger.append(msgspec.structs.replace(entry, at=self._scene.at()), after)


def run(scene: Scene, judge: Judge, passes: int, **means: float) -> None:
    for _ in range(passes):
        scene.tell(judge, scene.episodes(50, **means))


def test_a_good_canary_is_ramped_and_promoted_once_each_stage_has_had_its_time(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    judge = scene.judge()
    run(scene, judge, 1)
    assert scene.actions() == ["promote", "canary"]
    run(scene, judge, 1)
    assert scene.actions() == ["promote", "canary", "stage"]
    run(scene, judge, 20)
    assert scene.actions() == ["promote", "canary", "stage", "promote"]
    state = scene.state()
    assert (state.stable, state.previous, state.canary) == (2, 1, None)
    assert state.rollout is not None
    assert (state.rollout.outcome, state.rollout.verdict) == ("promoted", "promote")


def test_a_bad_canary_is_rolled_back_and_the_ledger_says_why(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    judge = scene.judge()
    run(scene, judge, 4, canary=40.0)
    assert scene.actions() == ["promote", "canary", "abort"]
    rollout = scene.state().rollout
    assert rollout is not None
    assert (rollout.outcome, rollout.verdict) == ("rolled_back", "roll_back")
    assert "the canary is worse (mean return " in rollout.sentence
    assert "100x needed" in rollout.sentence


@pytest.mark.parametrize(
    ("mode", "canary", "actions"),
    [
        ("guard", 60.0, ["stage"]),
        ("guard", 40.0, ["abort"]),
        ("advise", 60.0, []),
        ("advise", 40.0, []),
    ],
)
def test_the_judge_does_only_what_the_mode_permits(
    tmp_path: Path, mode: str, canary: float, actions: list[str]
) -> None:
    scene = Scene(tmp_path, mode=mode)
    run(scene, scene.judge(), 20, canary=canary)
    assert scene.actions()[2:] == actions


def test_in_advise_the_verdict_is_said_and_the_traffic_stays(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    run(scene, scene.judge(), 6, canary=40.0)
    rollout = scene.state().rollout
    assert rollout is not None
    assert (rollout.is_open, rollout.verdict) == (True, "roll_back")


def test_after_a_promotion_the_holdback_is_compared_on_and_nothing_done_about_it(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, holdback_share=0.3)
    judge = scene.judge()
    run(scene, judge, 40)
    assert scene.actions() == ["promote", "canary", "stage", "promote"]
    held = scene.state().rollout
    assert held is not None
    # The previous version is the one on trial now, and it is much worse.
    assert (held.kind, held.version, held.against, held.share) == ("holdback", 1, 2, 0.3)
    run(scene, judge, 10, canary=20.0)
    held = scene.state().rollout
    assert held is not None
    assert (held.is_open, held.verdict) == (True, "roll_back")
    assert scene.actions()[-1] == "promote"
    assert judge.evidence(POLICY).num_blocks > 100


def test_episodes_that_are_not_split_as_they_should_be_end_the_trial(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="guard")
    judge = scene.judge()
    for _ in range(8):
        # Half of stable's never arrive: those that are left are of another kind, perhaps.
        episodes = enumerate(scene.episodes(100))
        scene.tell(
            judge,
            (
                each
                for number, each in episodes
                if number % 2 or each.answered_by[0].variant == "canary"
            ),
        )
    rollout = scene.state().rollout
    assert rollout is not None
    assert (rollout.outcome, rollout.verdict) == ("invalid", "undecided")
    assert "not split as they should be" in rollout.sentence


@pytest.mark.parametrize("action", ["pause", "freeze"])
def test_a_pause_or_a_freeze_stops_ramps_and_no_rollback(tmp_path: Path, action: str) -> None:
    scene = Scene(tmp_path)
    scene.write(action)
    judge = scene.judge()
    run(scene, judge, 8)
    assert scene.actions()[2:] == [action]
    run(scene, judge, 20, canary=20.0)
    assert scene.actions()[2:] == [action, "abort"]


def test_a_restart_forgets_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    whole = Scene(tmp_path, mode="advise")
    first = whole.judge()
    episodes = list(whole.episodes(120))
    for part in (episodes[:50], episodes[50:120]):
        whole.tell(first, iter(part))
    found = first.evidence(POLICY).snapshot()
    # A new process, told the last pass again.
    second = whole.judge()
    whole.tell(second, iter(episodes[50:120]))
    assert second.evidence(POLICY).snapshot() == found
    assert found.counts[0][1] + found.counts[0][2] == 120


def test_an_idle_heartbeat_repeats_no_evidence(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    judge = scene.judge()
    run(scene, judge, 1)
    for _ in range(2):
        scene.now += 100
        scene.tell(judge, iter(()))
    said = [each.details for each in scene.ledger.read_after(0) if each.action == "evidence"]
    assert ["evidence" in details for details in said] == [True, False, False]
    rollout = scene.state().rollout
    assert rollout is not None
    assert rollout.evidence == said[0]["evidence"]


def test_without_its_file_a_judge_goes_on_from_the_ledger(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    first = scene.judge()
    run(scene, first, 3)
    found = first.evidence(POLICY).num_blocks
    for path in (tmp_path / "evidence").iterdir():
        path.unlink()
    second = scene.judge()
    run(scene, second, 1)
    assert found > 10
    assert second.evidence(POLICY).num_blocks > found


def test_one_judge_writes_until_its_lease_has_run_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    first, second = scene.judge(), scene.judge("judge b")
    run(scene, first, 1)
    scene.now += 5
    run(scene, second, 1, canary=20.0)
    lease = scene.state().lease
    assert lease is not None
    assert lease.holder == "judge a"
    scene.now += LEASE_SECONDS
    run(scene, second, 2, canary=20.0)
    lease = scene.state().lease
    assert lease is not None
    assert lease.holder == "judge b"
    assert scene.actions()[2:] == ["abort"]


def test_a_judge_that_an_operator_overtakes_changes_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    class Overtaken(_Timed):
        def append(self, entry: Entry, after: int) -> Entry:
            scene.write("rollback", 1)
            return super().append(entry, after)

    judge = Judge(Overtaken(scene.ledger, scene), tmp_path / "evidence", "judge a")
    run(scene, judge, 1, canary=20.0)
    assert scene.actions() == ["promote", "canary", "rollback"]
    assert "evidence" not in [each.action for each in scene.ledger.read_after(0)]


def test_an_episode_that_two_versions_answered_is_left_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    judge = scene.judge()
    state = scene.state()
    names = [scene.name(scene.now) for _ in range(40)]
    for name in names:
        version, variant, _ = assign(state.splits, name, scene.now)
        judge.on_episode(scene.episode(name, 1.0, version, variant, 3))
    scene.tell(judge, iter(()))
    evidence = judge.evidence(POLICY)
    assert (evidence.num_episodes, evidence.left_out) == (0, 40)


def test_episodes_from_before_the_canary_are_not_compared(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    judge = scene.judge()
    for _ in range(20):
        judge.on_episode(scene.episode(scene.name(START - 5), 1.0, 1, "stable"))
    scene.tell(judge, iter(()))
    evidence = judge.evidence(POLICY)
    assert (evidence.num_episodes, evidence.left_out) == (0, 0)


def test_an_episode_waits_for_those_that_began_before_it_and_are_open(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    judge = scene.judge()
    scene.open_since = scene.now + 20.5
    scene.tell(judge, scene.episodes(50))
    assert judge.evidence(POLICY).num_episodes == 20
    scene.open_since = None
    scene.tell(judge, iter(()))
    assert judge.evidence(POLICY).num_episodes == 50


def test_neither_another_policys_episode_nor_a_lone_decision_is_waited_for(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="advise")
    judge = scene.judge()
    scene.others_since = START
    scene.tell(judge, scene.episodes(50))
    assert judge.evidence(POLICY).num_episodes == 50


def test_an_episode_that_never_ends_holds_up_the_others_for_a_quarter_of_an_hour(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, mode="advise")
    judge = scene.judge()
    scene.open_since = START
    scene.tell(judge, scene.episodes(50))
    assert judge.evidence(POLICY).num_episodes == 0
    scene.now += 1000
    scene.tell(judge, iter(()))
    assert judge.evidence(POLICY).num_episodes == 50
