"""What is learned and judged: environments, and the logs that their studies begin with."""

from typing import Final, NamedTuple

from training.offline import OfflineConfig


class Task(NamedTuple):
    """An environment and what returns in it are held against."""

    preset: str
    lowest: float
    highest: float
    """Also what an expert returns."""
    half_trained: float
    """Return at which training is stopped, for a log to learn from."""
    judged_against: float
    """The same for the current policy of the gate's study: there are worse ones and better ones."""
    seeds: int
    gate_logs: int
    log_steps: int
    evaluation_episodes: int
    """That a true return is the mean of."""
    offline: OfflineConfig


CARTPOLE: Final = Task(
    preset="cartpole",
    lowest=0.0,
    highest=500.0,
    half_trained=60.0,
    judged_against=150.0,
    seeds=20,
    gate_logs=6,
    log_steps=100_000,
    evaluation_episodes=50,
    offline=OfflineConfig(),
)
LUNARLANDER: Final = Task(
    preset="lunarlander",
    lowest=-250.0,
    highest=250.0,
    half_trained=100.0,
    judged_against=100.0,
    seeds=10,
    gate_logs=6,
    log_steps=200_000,
    # Returns of one policy are 130 apart: of 50 the mean is uncertain by more than what is allowed.
    evaluation_episodes=400,
    # No model of it is believed, so that all there is to learn is in the log: it takes longer.
    offline=OfflineConfig(
        alphas=(0.1, 0.3), updates=8_000, candidate_updates=(2_000, 4_000, 6_000)
    ),
)
TASKS: Final = {task.preset: task for task in (CARTPOLE, LUNARLANDER)}
