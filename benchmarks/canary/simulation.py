"""One rollout as it would go in production, with the clock and the returns simulated.

Assignment, fold, evidence and judgement are those that run in the service and the recorder.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.canary.worlds import Returns, World, swing
from contract.assignment import assign
from contract.evidence import Evidence
from contract.fold import fold
from contract.ledger import Entry
from contract.plan import RolloutPlan
from contract.rollout import PolicyState
from recorder.judgement import permitted, rule

START: Final = 1_790_000_000.0
"""Unix seconds; which is of no matter."""
_CHUNK: Final = 1000
"""Returns drawn at once."""
_HEARTBEAT_SECONDS: Final = 600.0


class Ended(NamedTuple):
    """How a simulated rollout ended."""

    outcome: str
    """`promoted`, `rolled_back`, `invalid`, or `open` after the most canary episodes."""
    canary_episodes: int
    episodes: int


class Setting(NamedTuple):
    """What is simulated."""

    world: World
    drop: float
    """By how much the canary's mean return is worse, of a return range of 1."""
    plan: RolloutPlan
    most_canary_episodes: int
    drift: float = 0.0
    """Half-height of a swing in the mean return of both variants alike."""


def simulate(setting: Setting, number: int, generator: np.random.Generator) -> Ended:
    """One rollout: an episode a second begins and ends at once."""
    state = _opened(setting.plan, number)
    plan = setting.plan
    evidence = Evidence(plan.margin, plan.return_range)
    stable = np.empty(0)
    canary = np.empty(0)
    num_canary = begun = judged = 0
    phase = generator.random()
    while num_canary < setting.most_canary_episodes:
        place = begun % _CHUNK
        if place == 0:
            stable = _drawn(setting, 0.0, phase, begun, generator)
            canary = _drawn(setting, setting.drop, phase, begun, generator)
        now = START + 2 + begun
        begun += 1
        _, variant, share = assign(state.splits, f"{number}-{begun}", now)
        if share == 0.0:
            continue
        num_canary += variant == "canary"
        evidence.add(variant, float((canary if variant == "canary" else stable)[place]), share)
        if evidence.num_blocks == judged:
            continue
        judged = evidence.num_blocks
        state = _judge(state, evidence, now)
        trial = state.rollout
        assert trial is not None
        if not trial.is_open:
            return Ended(trial.outcome, num_canary, begun)
    return Ended("open", num_canary, begun)


def _judge(state: PolicyState, evidence: Evidence, now: float) -> PolicyState:
    trial = state.open_rollout
    assert trial is not None
    step = rule(trial, evidence, now).step
    if not permitted(trial, step, is_frozen=state.is_frozen):
        if now - trial.judged_at < _HEARTBEAT_SECONDS:
            return state
        heartbeat = {"rollout_id": trial.rollout_id, "until": now + 1}
        return _after(state, _entry("evidence", trial.version, now, heartbeat))
    details: dict[str, Any] = {"rollout_id": trial.rollout_id}
    match step:
        case "ramp":
            return _after(state, _entry("stage", None, now, details | {"stage": trial.stage + 1}))
        case "promote":
            return _after(state, _entry("promote", trial.version, now, details))
        case _:
            outcome = "rolled_back" if step == "roll_back" else "invalid"
            return _after(state, _entry("abort", None, now, details | {"outcome": outcome}))


def _opened(plan: RolloutPlan, number: int) -> PolicyState:
    details = {"rollout_id": f"rollout-{number}", "plan": plan.model_dump(mode="json")}
    first = _entry("promote", 1, START - 10, {})
    return _after(PolicyState(), first, _entry("canary", 2, START, details))


def _after(state: PolicyState, *entries: Entry) -> PolicyState:
    return fold(entries, {"simulated": state})["simulated"]


def _entry(action: str, version: int | None, now: float, details: dict[str, Any]) -> Entry:
    return Entry(
        action=action,
        policy="simulated",
        version=version,
        who="judge",
        why="simulated",
        at=datetime.fromtimestamp(now, UTC).isoformat(),
        details=details,
    )


def _drawn(
    setting: Setting, drop: float, phase: float, begun: int, generator: np.random.Generator
) -> Returns:
    if setting.drift == 0.0:
        return setting.world(generator, drop, _CHUNK)
    episodes = np.arange(begun, begun + _CHUNK, dtype=np.float64)
    harder = swing(setting.drift, phase, episodes)
    return setting.world(generator, drop + harder, _CHUNK)
