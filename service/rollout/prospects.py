"""A rollout as operators are told of it: what it will take, where it stands, what it has shown."""

from collections.abc import Iterable
from dataclasses import asdict
from math import exp
from typing import Any, Final

import msgspec

from contract.evidence import (
    PROMOTION_EVIDENCE,
    ROLLBACK_EVIDENCE,
    Evidence,
    Snapshot,
)
from contract.plan import RolloutPlan
from contract.prospect import EQUAL_CANARY_BLOCKS, HARM_BLOCKS, duration_in_words, waits
from contract.rollout import PolicyState, Rollout
from service.inference.live import Live

_NO_TRIAL: Final = "no version is on trial, and none has been"


def return_range(versions: Iterable[Live]) -> tuple[float, float] | None:
    """Least and largest return that the versions and the heuristic had in training.

    None where no bundle says it: ranks are then all that can be compared.
    """
    returns: list[float] = []
    for live in versions:
        manifest = live.policy.manifest
        if manifest.profile is not None:
            returns += [
                manifest.profile.episode_return.minimum,
                manifest.profile.episode_return.maximum,
            ]
            returns += [] if manifest.floor is None else [manifest.floor]
    if not returns or min(returns) == max(returns):
        return None
    return min(returns), max(returns)


def prospect(plan: RolloutPlan, episodes_per_second: float | None) -> dict[str, Any]:
    """What a canary will take, in figures and in sentences, before it starts."""
    stages = waits(plan, episodes_per_second)
    sentences = []
    for wait in stages:
        sentence = (
            f"a share of {wait.share:g}: {wait.blocks} canary episodes, "
            f"of about {wait.episodes:,} in all"
        )
        if wait.seconds is not None:
            sentence += f": about {duration_in_words(wait.seconds)}"
        if wait.hold_seconds:
            sentence += f", at least {duration_in_words(wait.hold_seconds)}"
        sentences.append(sentence)
    total = [wait.seconds for wait in stages if wait.seconds is not None]
    sentences += [
        "a fall by a tenth of the return range is seen after about "
        f"{HARM_BLOCKS[0]} (returns close together) to {HARM_BLOCKS[1]} (far apart) canary "
        "episodes",
        f"a canary as good as stable needs about {EQUAL_CANARY_BLOCKS[0]} to "
        f"{EQUAL_CANARY_BLOCKS[1]} of them to be promoted",
        {
            "advise": "the judge only says what it finds",
            "guard": "the judge ramps and rolls back; a person promotes",
            "auto": "the judge ramps, rolls back and promotes",
        }[plan.mode],
    ]
    if plan.return_range is None:
        sentences.append("no return range is known: it can be rolled back, and not promoted, by it")
    return {
        "plan": plan.model_dump(mode="json"),
        "stages": [wait._asdict() for wait in stages],
        "seconds": sum(total) if total else None,
        "sentences": sentences,
    }


def describe_state(policy: str, state: PolicyState, now: float) -> dict[str, Any]:
    """Aliases, plan and trial of a policy."""
    lease = state.lease
    return {
        "policy": policy,
        "stable": state.stable,
        "canary": state.canary,
        "shadow": state.shadow,
        "shadow_share": state.shadow_share,
        "previous": state.previous,
        "registered": state.registered,
        "pinned": state.is_pinned,
        "frozen": state.is_frozen,
        "plan": state.plan.model_dump(mode="json"),
        "rollout": describe_rollout(policy, state.rollout, now),
        "judge": None if lease is None else asdict(lease) | {"holds": lease.until > now},
        "changed_at": state.changed_at,
    }


def describe_rollout(policy: str, rollout: Rollout | None, now: float) -> dict[str, Any]:
    """A trial's verdict, with the figures and the sentence behind it."""
    if rollout is None:
        return {
            "policy": policy,
            "verdict": "undecided",
            "outcome": None,
            "sentence": _NO_TRIAL,
        }
    plan, stage = rollout.plan, rollout.plan.stages[rollout.stage]
    evidence = _evidence_of(rollout)
    canary_mean, stable_mean = evidence.means()
    away = now - rollout.judged_at if rollout.is_open else 0.0
    is_stopped = away > plan.judge_away_stop_seconds
    return {
        "policy": policy,
        "rollout_id": rollout.rollout_id,
        "kind": rollout.kind,
        "version": rollout.version,
        "against": rollout.against,
        "verdict": rollout.verdict,
        "outcome": rollout.outcome,
        "mode": plan.mode,
        "stage": rollout.stage,
        "stages": [each.share for each in plan.stages],
        "share": 0.0 if is_stopped else rollout.share,
        "paused": rollout.is_paused,
        "opened_at": rollout.opened_at,
        "closed_at": rollout.closed_at,
        "held_seconds": now - rollout.stage_since if rollout.is_open else None,
        "hold_seconds": stage.hold_seconds,
        "blocks": evidence.num_blocks,
        "blocks_at_stage": evidence.blocks_at(stage.share),
        "minimum_blocks": stage.minimum_blocks,
        "episodes": evidence.num_episodes,
        "left_out": evidence.left_out,
        "mean_return": {"canary": canary_mean, "stable": stable_mean},
        "evidence": {
            "rollback": exp(min(evidence.log_rollback, 600.0)),
            "promotion": exp(min(evidence.log_promotion, 600.0)),
        },
        "needed": {"rollback": ROLLBACK_EVIDENCE, "promotion": PROMOTION_EVIDENCE},
        "judge_away": away > plan.judge_away_hold_seconds,
        "sentence": rollout.sentence + _absence(rollout, away),
    }


def _absence(rollout: Rollout, away: float) -> str:
    plan = rollout.plan
    if away > plan.judge_away_stop_seconds:
        return f"; no judge for {duration_in_words(away)}: new episodes are all stable's"
    if away > plan.judge_away_hold_seconds:
        return f"; no judge for {duration_in_words(away)}: held"
    return ""


def _evidence_of(rollout: Rollout) -> Evidence:
    snapshot = None if rollout.evidence is None else msgspec.convert(rollout.evidence, Snapshot)
    return Evidence(rollout.plan.margin, rollout.plan.return_range, snapshot)
