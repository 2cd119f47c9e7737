from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from contract.assignment import Assigned, assign
from contract.fold import SETTLE_SECONDS, fold, state_at
from contract.ledger import Entry
from contract.plan import RolloutPlan
from contract.rollout import PolicyState

START = 1_790_000_000.0
PLAN = RolloutPlan(stages=({"share": 0.2}, {"share": 0.5}))


def at(seconds: float) -> str:
    return datetime.fromtimestamp(START + seconds, UTC).isoformat()


def entry(
    action: str,
    version: int | None = None,
    seconds: float = 0.0,
    policy: str = "p",
    **details: Any,
) -> Entry:
    return Entry(
        action=action,
        policy=policy,
        version=version,
        who="w",
        why=f"why {action}",
        at=at(seconds),
        position=int(seconds) + 1,
        details=details,
    )


def canary(version: int, seconds: float, rollout_id: str = "r", **changes: Any) -> Entry:
    plan = PLAN.model_copy(update=changes).model_dump(mode="json")
    return entry("canary", version, seconds, rollout_id=rollout_id, plan=plan)


def folded(*entries: Entry) -> PolicyState:
    return fold(entries, {})["p"]


def assigned(state: PolicyState, names: Iterable[str], began: float) -> dict[str, Assigned]:
    return {name: assign(state.splits, name, START + began) for name in names}


NAMES = [f"e{number}" for number in range(200)]


def test_stable_and_previous_follow_promotions_and_rollbacks() -> None:
    state = folded(entry("promote", 1), entry("promote", 2, 1), entry("promote", 5, 2))
    assert (state.stable, state.previous) == (5, 2)
    state = folded(entry("promote", 1), entry("promote", 2, 1), entry("rollback", 1, 2))
    assert (state.stable, state.previous, state.changed_at) == (1, 2, at(2))


def test_pins_and_freezes_are_lifted_by_their_opposites_alone() -> None:
    state = folded(entry("pin"), entry("freeze"), entry("promote", 1))
    assert (state.is_pinned, state.is_frozen, state.stable) == (True, True, 1)
    state = folded(entry("pin"), entry("freeze"), entry("unpin"))
    assert (state.is_pinned, state.is_frozen) == (False, True)
    assert not folded(entry("freeze"), entry("unfreeze")).is_frozen


def test_facts_and_other_policies_change_nothing() -> None:
    before = {"p": folded(entry("promote", 1))}
    after = fold([entry("load", 1), entry("load_failed", 2), entry("unheard of", 3)], before)
    assert after == before
    other = fold([entry("promote", 7, policy="q")], before)
    assert other["p"] == before["p"]
    assert other["q"].stable == 7


def test_a_fold_may_be_cut_anywhere() -> None:
    entries = [
        entry("promote", 1),
        canary(2, 10),
        entry("evidence", 2, 20, rollout_id="r", until=START + 60, evidence={"blocks": 3}),
        entry("stage", 2, 30, rollout_id="r", stage=1),
        entry("promote", 2, 40, holdback_share=0.1),
        entry("pin", seconds=50),
        entry("rollback", 1, 60),
    ]
    whole = fold(entries, {})
    for cut in range(len(entries)):
        assert fold(entries[cut:], fold(entries[:cut], {})) == whole


def test_a_change_of_share_moves_no_episode_that_is_open() -> None:
    opened = folded(entry("promote", 1), canary(2, 100))
    began = {seconds: assigned(opened, NAMES, seconds) for seconds in (50, 100.5, 102, 150)}
    assert {who.version for who in (*began[50].values(), *began[100.5].values())} == {1}
    assert {who.version for who in began[102].values()} == {1, 2}
    entries = [entry("promote", 1), canary(2, 100), entry("stage", 2, 200, rollout_id="r", stage=1)]
    ramped = folded(*entries)
    promoted = folded(*entries, entry("promote", 2, 300))
    for state in (ramped, promoted):
        for seconds, who in began.items():
            assert assigned(state, NAMES, seconds) == who
    grown = [who.version for who in assigned(ramped, NAMES, 202).values()]
    assert 0.4 < grown.count(2) / len(NAMES) < 0.6
    assert {who.version for who in assigned(promoted, NAMES, 302).values()} == {2}
    assert (promoted.stable, promoted.previous, promoted.canary) == (2, 1, None)
    assert promoted.rollout is not None
    assert promoted.rollout.outcome == "promoted"


def test_episodes_of_a_canary_that_was_rolled_back_finish_on_stable() -> None:
    for ending in (
        entry("abort", None, 200, rollout_id="r", outcome="rolled_back"),
        entry("guardrail", 2, 200, rollout_id="r"),
        entry("abort", None, 200),
        entry("rollback", 1, 200),
        entry("promote", 3, 200),
    ):
        state = folded(entry("promote", 1), canary(2, 100), ending)
        assert {who.version for who in assigned(state, NAMES, 150).values()} == {1}
        assert state.canary is None


def test_the_next_canary_of_the_same_version_does_not_take_back_old_episodes() -> None:
    entries = [entry("promote", 1), canary(2, 100), entry("abort", None, 200)]
    state = folded(*entries, canary(2, 300, rollout_id="again"))
    assert {who.version for who in assigned(state, NAMES, 150).values()} == {1}
    assert {who.version for who in assigned(state, NAMES, 302).values()} == {1, 2}


def test_a_stable_version_that_is_rolled_back_answers_no_episode_more() -> None:
    state = folded(entry("promote", 1), entry("promote", 2, 100), entry("rollback", 1, 200))
    for began in (50, 150, 250):
        assert {who.version for who in assigned(state, NAMES, began).values()} == {1}


def test_what_a_late_judge_says_of_a_closed_rollout_changes_nothing() -> None:
    entries = [entry("promote", 1), canary(2, 100), entry("abort", None, 200)]
    before = folded(*entries)
    for late in (
        entry("stage", 2, 210, rollout_id="r", stage=1),
        entry("guardrail", 2, 210, rollout_id="r"),
        entry("abort", None, 210, rollout_id="r", outcome="rolled_back"),
        entry("stage", 2, 210, rollout_id="r", stage=9),
    ):
        assert folded(*entries, late) == before


def test_evidence_is_the_judge_s_lease_and_its_snapshot() -> None:
    said: dict[str, Any] = {"rollout_id": "r", "until": START + 150, "evidence": {"blocks": 12}}
    state = folded(
        entry("promote", 1), canary(2, 100), entry("evidence", 2, 120, verdict="promote", **said)
    )
    assert state.lease is not None
    assert (state.lease.holder, state.lease.until) == ("w", START + 150)
    assert state.rollout is not None
    assert state.rollout.evidence == {"blocks": 12}
    assert (state.rollout.verdict, state.rollout.sentence) == ("promote", "why evidence")


def test_without_a_judge_new_episodes_are_stable_s_and_open_ones_stay_when_it_returns() -> None:
    entries = [entry("promote", 1), canary(2, 100)]
    away = folded(*entries)
    assert away.traffic(START + 999) == away.splits
    late = away.traffic(START + 1001)
    canaries = [name for name, who in assigned(away, NAMES, 500).items() if who.version == 2]
    name = canaries[0]
    assert assign(late, name, START + 1000.5)[:2] == (1, "stable")
    assert assign(late, name, START + 999.5)[:2] == (2, "canary")
    heard = entry("evidence", 2, 2000, rollout_id="r", until=START + 2030)
    back = folded(*entries, heard)
    assert assign(back.splits, name, START + 1500)[:2] == (1, "stable")
    assert assign(back.splits, name, START + 2000 + SETTLE_SECONDS)[:2] == (2, "canary")
    assert assign(back.splits, name, START + 500)[:2] == (2, "canary")


def test_a_holdback_leaves_a_share_on_the_previous_version_to_be_looked_at() -> None:
    state = folded(
        entry("promote", 1), canary(2, 100), entry("promote", 2, 200, holdback_share=0.2)
    )
    found = [who.version for who in assigned(state, NAMES, 300).values()]
    assert 0.1 < found.count(1) / len(NAMES) < 0.3
    assert state.rollout is not None
    trial = state.rollout
    assert (trial.kind, trial.version, trial.against, trial.plan.mode) == (
        "holdback",
        1,
        2,
        "advise",
    )


def test_a_pause_is_lifted_by_a_resume_and_a_shadow_by_a_share_of_none() -> None:
    entries = [entry("promote", 1), canary(2, 1), entry("pause", seconds=2)]
    paused = folded(*entries).rollout
    assert paused is not None
    assert paused.is_paused
    resumed = folded(*entries, entry("resume", seconds=3)).rollout
    assert resumed is not None
    assert not resumed.is_paused
    shown = folded(entry("promote", 1), entry("shadow", 3, 1, share=0.1))
    assert (shown.shadow, shown.shadow_share) == (3, 0.1)
    assert folded(entry("shadow", 3, share=0.1), entry("shadow", 3, 1, share=0.0)).shadow is None


def test_the_ledger_says_what_was_live_at_any_time() -> None:
    entries = [entry("promote", 1), entry("promote", 2, 100), entry("rollback", 1, 200)]
    live = [state_at(entries, "p", START + seconds).stable for seconds in (-1, 0, 99, 100, 200)]
    assert live == [None, 1, 1, 2, 1]
    assert state_at(entries, "q", START + 500) == PolicyState()


def test_a_plan_is_kept_for_the_canaries_to_come() -> None:
    state = folded(entry("plan", plan={"margin": 0.2}))
    assert state.plan == RolloutPlan(margin=0.2)


def test_versions_with_a_name_or_an_open_episode_must_be_loaded() -> None:
    state = folded(
        entry("promote", 1),
        entry("promote", 2, 1),
        canary(3, 2),
        entry("shadow", 4, 3, share=0.1),
        entry("register", 5, 4),
    )
    assert state.wanted(9) == [2, 3, 1, 4, 5]
    assert state.wanted(2) == [2, 3]
