"""Which reports count as the reward of a decision, and what counts where none comes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from contract.records import Outcome, is_repeat


@dataclass(frozen=True)
class RewardRules:
    """How outcomes become the reward of a step.

    Without a window the first outcome to come is the reward, at once. With one, a step waits until
    the window is over, so that the result is the same whatever the order of the records.
    """

    window_seconds: float | None = None
    """How long after its decision an outcome counts; what is later is logged, not learned from."""
    default_reward: float | None = None
    """What a step without an outcome gets once its window is over; None leaves it unjoined."""
    aggregate: Literal["earliest", "sum"] = "earliest"
    """Of several outcomes in the window: the first by its time, or their rewards together."""
    horizon_steps: int | None = None
    """A task that never ends is cut into episodes of so many steps."""

    def __post_init__(self) -> None:
        if self.window_seconds is None and (
            self.default_reward is not None or self.aggregate == "sum"
        ):
            raise ValueError("default_reward and sum need window_seconds: what is waited for?")
        if self.window_seconds is not None and not self.window_seconds > 0:
            raise ValueError(f"window_seconds must be above 0, found {self.window_seconds}")
        if self.horizon_steps is not None and self.horizon_steps < 1:
            raise ValueError(f"horizon_steps must be at least 1, found {self.horizon_steps}")

    def counts(self, decided_at: float, outcome: Outcome) -> bool:
        """Whether an outcome is in time for a decision; times in Unix seconds."""
        return self.window_seconds is None or outcome.time <= decided_at + self.window_seconds

    def is_over(self, decided_at: float, now: float) -> bool:
        """Whether nothing more can come in time."""
        return self.window_seconds is not None and now > decided_at + self.window_seconds


def hold(waiting: list[Outcome], outcome: Outcome) -> bool:
    """Add a report on a decision to those that wait; False where it is one of them, sent again.

    Of repeats the earliest stands, whatever their order: it may be the only one in time.
    """
    for place, each in enumerate(waiting):
        if is_repeat(each, outcome):
            waiting[place] = min(each, outcome, key=lambda one: one.time)
            return False
    waiting.append(outcome)
    return True


def combine(outcomes: Iterable[Outcome], rules: RewardRules) -> Outcome | None:
    """One outcome of all that a step got; None where it got none."""
    ordered = sorted(outcomes, key=lambda each: each.time)
    if not ordered or rules.aggregate == "earliest":
        return ordered[0] if ordered else None
    audits = [each.audit for each in ordered if each.audit is not None]
    finals = [each.final_observation for each in ordered if each.final_observation is not None]
    last = ordered[-1]
    return Outcome(
        policy=last.policy,
        time=last.time,
        decision_id=last.decision_id,
        row=last.row,
        episode_id=last.episode_id,
        step=last.step,
        reward=sum(each.reward for each in ordered),
        terminated=any(each.terminated for each in ordered),
        truncated=any(each.truncated for each in ordered),
        final_observation=finals[-1] if finals else None,
        audit=sum(audits) if audits else None,
    )
