"""Transitions of real Atari games, as the join gives them for a policy that plays at random."""

from collections.abc import Iterator
from itertools import count

import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Discrete

from contract.records import AnsweredBy
from contract.transitions import Episode, Transition

_NUM_GAMES = 8
_STICKY = 0.25
"""Probability that a screen gets the last action again (Machado et al., 2018)."""
_WHO = AnsweredBy(1, "stable", "model", None, "random@1")


def play(game: str, num_transitions: int, seed: int) -> Iterator[Transition | Episode]:
    """Play games side by side: each one's transitions in order, then its episode.

    Observations are stacks of four grey frames of 84 x 84, each action held for four screens.
    Q-values are noise, which no compression makes smaller. It goes on until games that are over
    have so many transitions; those that are cut off then are left open.
    """
    games = AtariVectorEnv(
        game, num_envs=_NUM_GAMES, num_threads=1, repeat_action_probability=_STICKY
    )
    rng = np.random.default_rng(seed)
    actions_of_one = games.single_action_space
    assert isinstance(actions_of_one, Discrete)
    num_actions = int(actions_of_one.n)
    stacks, _ = games.reset(seed=seed)
    open_games = [_OpenGame(game, number) for number in range(_NUM_GAMES)]
    numbers = count(_NUM_GAMES)
    num_whole = 0
    while num_whole < num_transitions:
        actions = rng.integers(num_actions, size=_NUM_GAMES)
        q_values = rng.normal(size=(_NUM_GAMES, num_actions)).astype(np.float16)
        following, rewards, terminated, truncated, _ = games.step(actions)
        # The games' own memory is written over by the next step.
        following = following.copy()
        for row, open_game in enumerate(open_games):
            if open_game.is_over:
                # This call began the next game; its action did nothing.
                open_games[row] = _OpenGame(game, next(numbers))
                continue
            yield open_game.step(
                stacks[row],
                int(actions[row]),
                float(rewards[row]),
                following[row],
                is_end=(bool(terminated[row]), bool(truncated[row])),
                propensity=1 / num_actions,
                q_values=q_values[row],
            )
            if open_game.is_over:
                episode = open_game.episode()
                num_whole += len(episode.rewards)
                yield episode
        stacks = following
    games.close()


class _OpenGame:
    """One game that is being played."""

    def __init__(self, game: str, number: int) -> None:
        self._game = game
        self._episode_id = f"{game}-{number:06d}"
        self._started_at = 1_700_000_000.0 + number
        self._rewards: list[float] = []
        self._is_terminated = False
        self.is_over = False

    def step(
        self,
        stack: npt.NDArray[np.uint8],
        action: int,
        reward: float,
        following: npt.NDArray[np.uint8],
        is_end: tuple[bool, bool],
        propensity: float,
        q_values: npt.NDArray[np.float16],
    ) -> Transition:
        """One step as a transition."""
        self._is_terminated, truncated = is_end
        self.is_over = any(is_end)
        self._rewards.append(reward)
        step = len(self._rewards) - 1
        return Transition(
            policy=self._game,
            schema_hash="84x84x4",
            episode_id=self._episode_id,
            step=step,
            observation=stack,
            action=action,
            reward=reward,
            next_observation=following,
            terminated=self._is_terminated,
            truncated=truncated,
            propensity=propensity,
            answered_by=_WHO,
            q_values=q_values,
            time=self._started_at + step / 15,
        )

    def episode(self) -> Episode:
        """The game, once it is over."""
        return Episode(
            policy=self._game,
            episode_id=self._episode_id,
            ending="terminated" if self._is_terminated else "truncated",
            rewards=tuple(self._rewards),
            is_complete=True,
            answered_by=(_WHO,),
            started_at=self._started_at,
            ended_at=self._started_at + len(self._rewards) / 15,
        )
