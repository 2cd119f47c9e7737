"""What the ledger adds up to. A pure fold: who has read the same entries agrees without asking."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal

from contract.assignment import Split, with_split
from contract.ledger import Entry
from contract.plan import RolloutPlan, Stage, plan_of
from contract.rollout import Lease, Outcome, PolicyState, Rollout

SETTLE_SECONDS: Final = 1.0
"""A change of share holds for episodes that begin so long after it was written: every replica has
read it by then."""


def fold(entries: Iterable[Entry], states: dict[str, PolicyState]) -> dict[str, PolicyState]:
    """The states after these entries; an action that changes no state is passed over.

    So is an entry that cannot be understood, which a later release may have written: the state
    names it, and what follows it is followed.
    """
    states = dict(states)
    for entry in entries:
        apply = _ACTIONS.get(entry.action)
        if apply is None:
            continue
        state = states.get(entry.policy, PolicyState())
        try:
            changed = apply(state, entry, time_of(entry))
        except (ValueError, KeyError, TypeError):
            changed = replace(state, not_understood=entry.position)
        if changed is not state:
            states[entry.policy] = replace(changed, changed_at=entry.at)
    return states


def state_at(entries: Iterable[Entry], policy: str, time: float) -> PolicyState:
    """What held at a time, Unix seconds: which version was live last Tuesday at 14:00."""
    past = (entry for entry in entries if entry.policy == policy and time_of(entry) <= time)
    return fold(past, {}).get(policy, PolicyState())


def time_of(entry: Entry) -> float:
    """Unix seconds of an entry."""
    moment = datetime.fromisoformat(entry.at)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _promote(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    """Open episodes stay where they are; new ones are the promoted version's."""
    trial, former = state.open_rollout, state.stable
    if trial is not None and trial.version == entry.version:
        won = replace(trial, outcome="promoted", verdict="promote", closed_at=now)
        state = replace(state, rollout=won)
    else:
        state = _closed(state, "aborted", now)
    state = replace(state, stable=entry.version, previous=former)
    split = Split(now + SETTLE_SECONDS, entry.version)
    share = entry.details.get("holdback_share", 0.0)
    if share and former is not None and entry.version is not None:
        plan = RolloutPlan(
            stages=(Stage(share=share, hold_seconds=0),),
            mode="advise",
            return_range=entry.details.get("return_range"),
        )
        rollout_id = f"holdback-{entry.position}"
        held = _opened("holdback", rollout_id, former, entry.version, plan, now)
        state = replace(state, rollout=held)
        split = split._replace(canary=former, canary_share=share, salt=rollout_id)
    return replace(state, splits=with_split(state.splits, split))


def _rollback(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    """The stable version is withdrawn: its open episodes too are answered by the other one."""
    if entry.version is None:
        return state
    state = _closed(state, "aborted", now)
    splits = (Split(now, entry.version),)
    return replace(state, stable=entry.version, previous=state.stable, splits=splits)


def _canary(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    if state.stable is None or entry.version is None:
        return state
    state = _closed(state, "aborted", now)
    stable = state.stable or 0
    plan = plan_of(entry.details)
    rollout_id = str(entry.details["rollout_id"])
    trial = _opened("canary", rollout_id, entry.version, stable, plan, now)
    split = Split(now + SETTLE_SECONDS, stable, entry.version, trial.share, rollout_id)
    return replace(state, rollout=trial, splits=with_split(state.splits, split))


def _stage(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    trial = _trial_of(state, entry)
    number = entry.details.get("stage")
    if trial is None or not isinstance(number, int) or not 0 <= number < len(trial.plan.stages):
        return state
    state = _heard(state, now)
    share = trial.plan.stages[number].share
    trial = replace(trial, stage=number, stage_since=now, share=share, judged_at=now)
    split = state.splits[-1]._replace(effective_at=now + SETTLE_SECONDS, canary_share=share)
    return replace(state, rollout=trial, splits=with_split(state.splits, split))


def _evidence(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    """The judge's snapshot: it also renews the lease and says that there is a judge."""
    state = replace(state, lease=Lease(entry.who, float(entry.details["until"])))
    trial = _trial_of(state, entry)
    if trial is None:
        return state
    trial = replace(
        trial,
        judged_at=now,
        evidence=entry.details.get("evidence", trial.evidence),
        verdict=entry.details.get("verdict", trial.verdict),
        sentence=entry.why,
    )
    return replace(_heard(state, now), rollout=trial)


def _abort(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    """A trial ends without a promotion, by an operator's word or the judge's; a shadow too."""
    if "rollout_id" in entry.details and _trial_of(state, entry) is None:
        return state
    outcome: Outcome = entry.details.get("outcome", "aborted")
    if outcome == "rolled_back":
        state = _condemned(state, entry)
    return replace(_closed(state, outcome, now), shadow=None, shadow_share=0.0)


def _guardrail(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    """A worker has taken the canary off its own traffic; the others follow."""
    if _trial_of(state, entry) is None:
        return state
    return _closed(_condemned(state, entry), "rolled_back", now)


def _pause(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    trial = state.open_rollout
    return state if trial is None else replace(state, rollout=replace(trial, is_paused=True))


def _resume(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    trial = state.open_rollout
    return state if trial is None else replace(state, rollout=replace(trial, is_paused=False))


def _shadow(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    share = float(entry.details.get("share", 0.0))
    return replace(state, shadow=entry.version if share > 0 else None, shadow_share=share)


def _register(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    return replace(state, registered=entry.version)


def _plan(state: PolicyState, entry: Entry, now: float) -> PolicyState:
    return replace(state, plan=plan_of(entry.details))


_ACTIONS: Final[dict[str, Callable[[PolicyState, Entry, float], PolicyState]]] = {
    "promote": _promote,
    "rollback": _rollback,
    "canary": _canary,
    "stage": _stage,
    "evidence": _evidence,
    "abort": _abort,
    "guardrail": _guardrail,
    "pause": _pause,
    "resume": _resume,
    "shadow": _shadow,
    "register": _register,
    "plan": _plan,
    "pin": lambda state, _entry, _now: replace(state, is_pinned=True),
    "unpin": lambda state, _entry, _now: replace(state, is_pinned=False),
    "freeze": lambda state, _entry, _now: replace(state, is_frozen=True),
    "unfreeze": lambda state, _entry, _now: replace(state, is_frozen=False),
}


def _opened(
    kind: Literal["canary", "holdback"],
    rollout_id: str,
    version: int,
    against: int,
    plan: RolloutPlan,
    now: float,
) -> Rollout:
    return Rollout(
        rollout_id=rollout_id,
        kind=kind,
        version=version,
        against=against,
        plan=plan,
        opened_at=now,
        stage_since=now,
        judged_at=now,
        share=plan.stages[0].share,
    )


def _trial_of(state: PolicyState, entry: Entry) -> Rollout | None:
    """The open trial where it is the one that the entry is about."""
    trial = state.open_rollout
    if trial is None or entry.details.get("rollout_id") != trial.rollout_id:
        return None
    return trial


def _condemned(state: PolicyState, entry: Entry) -> PolicyState:
    trial = state.open_rollout
    if trial is None:
        return state
    return replace(state, rollout=replace(trial, verdict="roll_back", sentence=entry.why))


def _closed(state: PolicyState, outcome: Outcome, now: float) -> PolicyState:
    """End the open trial; its version is withdrawn from the episodes that are open as well."""
    trial = state.open_rollout
    if trial is None:
        return state
    splits = tuple(
        split._replace(canary=None, canary_share=0.0) if split.canary == trial.version else split
        for split in state.splits
    )
    return replace(
        state,
        rollout=replace(trial, outcome=outcome, closed_at=now, share=0.0),
        splits=with_split(splits, Split(now, state.stable)),
    )


def _heard(state: PolicyState, now: float) -> PolicyState:
    """A judge is back: how episodes were split without it meanwhile stays as it was."""
    splits = state.traffic(now)
    if splits is state.splits:
        return state
    resumed = state.splits[-1]._replace(effective_at=now + SETTLE_SECONDS)
    return replace(state, splits=with_split(splits, resumed))
