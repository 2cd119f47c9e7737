"""The four mistakes that most often keep DQN from learning, found before a run begins."""

from contract.declaration import ObservationSpec
from training.config import TrainingConfig

SMALL_REPLAY_TRANSITIONS = 10_000
FREQUENT_SYNC_UPDATES = 100
FAST_TARGET_BLEND = 0.05


def find_mistakes(config: TrainingConfig, observation: ObservationSpec) -> list[str]:
    """One sentence for each likely mistake: what was found, what it does, what to set."""
    checks = (
        _replay_too_small(config),
        _target_too_fast(config),
        _observations_not_normalised(config, observation),
        _rewards_not_bounded(config),
    )
    return [mistake for mistake in checks if mistake is not None]


def _replay_too_small(config: TrainingConfig) -> str | None:
    needed = min(SMALL_REPLAY_TRANSITIONS, config.total_steps)
    if config.replay_capacity >= needed:
        return None
    return (
        f"the replay holds {config.replay_capacity} transitions: batches will be correlated and "
        f"old situations forgotten; set --replay-capacity to at least {needed}"
    )


def _target_too_fast(config: TrainingConfig) -> str | None:
    if config.target_update == "soft":
        if config.target_blend <= FAST_TARGET_BLEND:
            return None
        return (
            f"each update blends {config.target_blend:g} of the online network into the target: "
            f"targets chase themselves; set --target-blend to at most {FAST_TARGET_BLEND:g}"
        )
    rounds = max(1.0, config.target_sync_steps / config.steps_between_updates)
    updates = rounds * config.updates_per_round
    if updates >= FREQUENT_SYNC_UPDATES:
        return None
    return (
        f"the target network is synced every {updates:.0f} updates: targets chase themselves; "
        f"raise --target-sync-steps until {FREQUENT_SYNC_UPDATES} updates lie between"
    )


def _observations_not_normalised(
    config: TrainingConfig, observation: ObservationSpec
) -> str | None:
    # Convolutions scale pixels themselves.
    if config.normalise_observations or config.convolutions is not None:
        return None
    return (
        f"observations ({observation.dtype}, shape {list(observation.shape)}) reach the network "
        "as they are: elements of large scale drown the others; set --normalise-observations"
    )


def _rewards_not_bounded(config: TrainingConfig) -> str | None:
    if config.reward_clip is not None or config.reward_scale != 1.0:
        return None
    return (
        "rewards are neither clipped nor scaled: large ones make large gradients and Q-values; "
        "set --reward-clip or --reward-scale"
    )
