"""What the behaviour policy meets: episodes as they end, and the statistics of the whole run."""

from typing import NamedTuple

import numpy as np

from training.actor import Walk
from training.checkpoint import TrainingStatistics
from training.moments import FloatArray, RunningMoments


class EndedEpisode(NamedTuple):
    """One episode of the behaviour policy."""

    steps: int
    """Environment steps of the run when it ended."""

    episode_return: float
    length: int
    mean_max_q: float
    """Mean over its steps of max over actions of Q."""


class EpisodeTracker:
    """Adds up the episodes that are under way in N environments."""

    def __init__(self, num_environments: int) -> None:
        self._returns = np.zeros(num_environments)
        self._lengths = np.zeros(num_environments, np.int64)
        self._max_q_sums = np.zeros(num_environments)
        self.moments = {name: RunningMoments() for name in TrainingStatistics.model_fields}

    @property
    def rewards(self) -> RunningMoments:
        """Of all rewards so far, as the environments gave them."""
        return self.moments["rewards"]

    def add(self, walk: Walk, steps_before: int) -> list[EndedEpisode]:
        """Take in a walk; the episodes that ended in it.

        Args:
            walk: T steps of N environments.
            steps_before: Environment steps of the run before the walk.
        """
        ended_episodes = []
        max_q_values = walk.q_values.max(axis=2)
        for step, transitions in enumerate(walk.transitions):
            self._returns += transitions.rewards
            self._lengths += 1
            self._max_q_sums += max_q_values[step]
            ended = transitions.terminated | transitions.truncated
            steps = steps_before + (step + 1) * len(ended)
            for index in np.flatnonzero(ended):
                ended_episodes.append(self._end_episode(int(index), steps))

        self.rewards.add(np.concatenate([step.rewards for step in walk.transitions]))
        self.moments["absolute_q_values"].add(np.abs(walk.q_values).ravel())
        self.moments["returns"].add([episode.episode_return for episode in ended_episodes])
        self.moments["lengths"].add([episode.length for episode in ended_episodes])
        return ended_episodes

    def statistics(self) -> TrainingStatistics:
        """Everything so far, to write down."""
        return TrainingStatistics(
            **{name: moments.summary() for name, moments in self.moments.items()}
        )

    def state(self) -> dict[str, FloatArray]:
        """All of this, for `restore`."""
        moments = {
            f"{name}.{key}": array
            for name, moments in self.moments.items()
            for key, array in moments.state().items()
        }
        return moments | {
            "under_way.returns": self._returns,
            "under_way.lengths": self._lengths.astype(np.float64),
            "under_way.max_q_sums": self._max_q_sums,
        }

    def restore(self, state: dict[str, FloatArray]) -> None:
        """Take up what `state` gave."""
        self._returns = state["under_way.returns"]
        self._lengths = state["under_way.lengths"].astype(np.int64)
        self._max_q_sums = state["under_way.max_q_sums"]
        for name in self.moments:
            self.moments[name] = RunningMoments.from_state(
                {
                    key.removeprefix(f"{name}."): array
                    for key, array in state.items()
                    if key.startswith(f"{name}.")
                }
            )

    def cut(self) -> None:
        """Forget the episodes under way: others begin in their place."""
        for sums in (self._returns, self._lengths, self._max_q_sums):
            sums[:] = 0

    def _end_episode(self, index: int, steps: int) -> EndedEpisode:
        length = int(self._lengths[index])
        episode = EndedEpisode(
            steps=steps,
            episode_return=float(self._returns[index]),
            length=length,
            mean_max_q=float(self._max_q_sums[index]) / length,
        )
        self._returns[index] = self._lengths[index] = self._max_q_sums[index] = 0
        return episode
