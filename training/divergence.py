"""When to stop a run that has gone wrong, and what to say of it."""

import math

from contract.manifest import RewardTransform
from training.moments import RunningMoments

_FRESH_NETWORK_Q = 1.0
"""A network that has learned nothing gives values of this order, however small rewards are."""


class DivergenceError(Exception):
    """Learning has left all bounds; going on is a waste, and the message says why."""


def q_limit(
    rewards: RunningMoments, transform: RewardTransform, discount: float, factor: float
) -> float:
    """`factor` times the largest |Q| that the rewards seen so far, for ever, could add up to."""
    extremes = (float(rewards.minimum), float(rewards.maximum))
    largest_q = max(abs(transform.apply(reward)) for reward in extremes) / (1.0 - discount)
    return factor * max(largest_q, _FRESH_NETWORK_Q)


def check_divergence(loss: float, largest_q: float, limit: float, num_updates: int) -> None:
    """Pass if learning looks sound.

    Args:
        loss: Mean loss of the latest updates.
        largest_q: Largest |Q| of the latest batch.
        limit: Where |Q| counts as diverged.
        num_updates: Updates so far.

    Raises:
        DivergenceError: The loss is not finite, or Q-values are beyond the limit.
    """
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the loss is {loss} after {num_updates} updates: the step size is too large for the "
            "gradients, or rewards or observations are not finite"
        )
    if largest_q > limit:
        raise DivergenceError(
            f"|Q| is {largest_q:.4g} after {num_updates} updates, beyond the limit of "
            f"{limit:.4g} that rewards and discount set: targets chase themselves; sync the "
            "target network less often, lower the learning rate, or learn with --double"
        )
