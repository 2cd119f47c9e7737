"""What the evidence of a rollout says, and what may be done about it. Pure."""

from math import exp
from typing import Final, Literal, NamedTuple

from contract.evidence import PROMOTION_EVIDENCE, ROLLBACK_EVIDENCE, Evidence
from contract.prospect import duration_in_words, seconds_to_go
from contract.rollout import Rollout, Verdict

Step = Literal["hold", "ramp", "promote", "roll_back", "invalidate"]

_SUSPICIOUS_EVIDENCE: Final = 10.0
"""With so much evidence of harm the share is not raised, though nothing is proven."""
_SAFE_STEPS: Final = frozenset({"roll_back", "invalidate"})


class Ruling(NamedTuple):
    """What the evidence says."""

    verdict: Verdict
    step: Step
    """What it asks for, whoever may take it."""


def rule(trial: Rollout, evidence: Evidence, now: float) -> Ruling:
    """Weigh a trial; may be asked after every episode, for the evidence holds at every look."""
    if evidence.is_mismatched:
        return Ruling("undecided", "invalidate")
    if evidence.is_harmful:
        return Ruling("roll_back", "roll_back")
    stage = trial.plan.stages[trial.stage]
    is_done = (
        evidence.blocks_at(stage.share) >= stage.minimum_blocks
        and now - trial.stage_since >= stage.hold_seconds
        and exp(evidence.log_rollback) < _SUSPICIOUS_EVIDENCE
    )
    if not is_done:
        return Ruling("undecided", "hold")
    if not trial.is_last_stage:
        return Ruling("undecided", "ramp")
    if evidence.is_good:
        return Ruling("promote", "promote")
    return Ruling("undecided", "hold")


def permitted(trial: Rollout, step: Step, *, is_frozen: bool) -> bool:
    """Whether the judge may take a step by itself. Nothing but the plan's mode stops a rollback."""
    if step == "hold" or trial.plan.mode == "advise":
        return False
    if step in _SAFE_STEPS:
        return True
    if trial.is_paused or is_frozen:
        return False
    return step == "ramp" or trial.plan.mode == "auto"


def describe(
    trial: Rollout,
    evidence: Evidence,
    ruling: Ruling,
    now: float,
    episodes_per_second: float | None,
) -> str:
    """The figures and what they mean, in one sentence."""
    figures = _figures(trial, evidence)
    match ruling.step:
        case "invalidate":
            found = ", ".join(
                f"{canary} canary and {stable} stable episodes at a share of {share:g}"
                for share, canary, stable in evidence.snapshot().counts
            )
            return f"the episodes are not split as they should be ({found}): no comparison holds"
        case "roll_back":
            means = _means(evidence)
            return f"the canary is worse ({means}; by its {evidence.fires_by}): {figures}"
        case "promote":
            return f"the canary is not worse by the margin ({_means(evidence)}): {figures}"
        case "ramp":
            share = trial.plan.stages[trial.stage + 1].share
            return f"on to a share of {share:g}: {figures}"
    return "; ".join([figures, *_outlook(trial, evidence, now, episodes_per_second)])


def _figures(trial: Rollout, evidence: Evidence) -> str:
    stage = trial.plan.stages[trial.stage]
    here = evidence.blocks_at(stage.share)
    parts = [
        f"{here} of {stage.minimum_blocks} blocks at a share of {stage.share:g}",
        f"{_times(evidence.log_rollback)} evidence of harm, {ROLLBACK_EVIDENCE:g}x needed",
    ]
    if trial.plan.return_range is None:
        parts.append("no return range is known, so that nothing can show it harmless")
    else:
        parts.append(
            f"{_times(evidence.log_promotion)} evidence that it does no harm, "
            f"{PROMOTION_EVIDENCE:g}x needed"
        )
    return "; ".join(parts)


def _outlook(
    trial: Rollout, evidence: Evidence, now: float, episodes_per_second: float | None
) -> list[str]:
    if trial.is_paused:
        return ["paused by an operator"]
    if evidence.num_blocks >= trial.plan.maximum_blocks:
        return [f"inconclusive after {evidence.num_blocks} blocks: stable stays"]
    if not episodes_per_second or trial.kind == "holdback":
        return []
    seconds = seconds_to_go(
        trial.plan, trial.stage, now - trial.stage_since, evidence, episodes_per_second
    )
    return [f"at this traffic about {duration_in_words(seconds)} to go"]


def _means(evidence: Evidence) -> str:
    canary, stable = evidence.means()
    return f"mean return {canary or 0:.4g}, stable's {stable or 0:.4g}"


def _times(log_evidence: float) -> str:
    return f"{exp(min(log_evidence, 40.0)):.3g}x"
