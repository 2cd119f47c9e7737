"""Episodes: their ids, and the loop of an agent that plays one.

with Client("http://127.0.0.1:8000") as client:
    observation, _ = environment.reset()
    episode = client.episode("cartpole")
    while not episode.is_over:
        action = episode.act(observation)
        observation, reward, terminated, truncated, _ = environment.step(action)
        episode.reward(reward, terminated, truncated, observation)
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import numpy.typing as npt

from dqn_client.local import UNREACHABLE
from dqn_client.messages import AnsweredBy, StepAnswer, as_lists


def new_episode_id(now: float | None = None) -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits.

    The service reads from it which share was in force when the episode began.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    value = milliseconds << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(UUID(int=value))


class _Progress:
    """Where an episode stands, and what its next call says."""

    def __init__(self, policy: str | None, fields: dict[str, Any]) -> None:
        self.episode_id = new_episode_id()
        self.step = 0
        """Of the next action."""
        self.is_over = False
        self.episode_return = 0.0
        """Undiscounted, so far."""
        self.answered_by: AnsweredBy | None = None
        """Who chose the latest action."""
        self.durable_step = -1
        """Everything up to this step is on the server's disk."""
        self._fields = fields if policy is None else {"policy": policy, **fields}
        self._reward: float | None = None

    def _question(self, observation: npt.ArrayLike, fields: dict[str, Any]) -> dict[str, Any]:
        if self.is_over:
            raise ValueError(f"episode {self.episode_id} is over")
        if self.step > 0 and self._reward is None:
            raise ValueError(f"step {self.step - 1} has no reward yet: call `reward` first")
        question: dict[str, Any] = {**self._fields, **fields, "observation": as_lists(observation)}
        # What was decided here is no decision that the server could give a reward to.
        if not self._was_answered_here:
            question["reward"] = self._reward
        return question

    def _note_answer(self, answer: StepAnswer) -> int:
        if answer.action is None:
            raise ValueError(f"the server gave no action for step {self.step}")
        self.answered_by, self._reward = answer.answered_by, None
        self.step += 1
        self.durable_step = max(self.durable_step, answer.durable_step)
        return answer.action

    def _note_reward(self, reward: float, *, is_over: bool) -> None:
        if self.step == 0 or self._reward is not None or self.is_over:
            raise ValueError("a reward follows an action, once")
        self._reward = float(reward)
        self.episode_return += self._reward
        self.is_over = is_over

    def _last_report(
        self, terminated: bool, truncated: bool, final_observation: npt.ArrayLike | None
    ) -> dict[str, Any]:
        report = {
            **self._fields,
            "reward": self._reward,
            # A true end says more than a limit that was reached in the same step.
            "terminated": bool(terminated),
            "truncated": bool(truncated) and not terminated,
        }
        if final_observation is not None:
            report["final_observation"] = as_lists(final_observation)
        return report

    @property
    def _was_answered_here(self) -> bool:
        return self.answered_by is not None and self.answered_by.reason == UNREACHABLE


class Episode(_Progress):
    """One run of one agent; made by `Client.episode`. The server keeps its stack of frames."""

    def __init__(
        self, take_step: Callable[..., StepAnswer], policy: str | None, **fields: Any
    ) -> None:
        super().__init__(policy, fields)
        self._take_step = take_step

    def act(self, observation: npt.ArrayLike, **fields: Any) -> int:
        """The action for one frame [*shape]; tells the server the reward of the step before.

        Raises:
            ClientError: The service refused, or could not be reached and there is no local policy.
            ValueError: The episode is over, or the last reward is missing.
        """
        question = self._question(observation, fields)
        return self._note_answer(self._take_step(self.episode_id, self.step, **question))

    def reward(
        self,
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
        final_observation: npt.ArrayLike | None = None,
    ) -> None:
        """What came of the latest action; at the episode's end it is on the server's disk at once.

        Raises:
            ClientError: The last report was refused, or the service could not be reached.
            ValueError: There is no action without a reward.
        """
        is_over = bool(terminated or truncated)
        self._note_reward(reward, is_over=is_over)
        if is_over:
            report = self._last_report(terminated, truncated, final_observation)
            answer = self._take_step(self.episode_id, self.step, **report)
            self.durable_step = max(self.durable_step, answer.durable_step)


class AsyncEpisode(_Progress):
    """As `Episode`, awaited; made by `AsyncClient.episode`."""

    def __init__(
        self, take_step: Callable[..., Awaitable[StepAnswer]], policy: str | None, **fields: Any
    ) -> None:
        super().__init__(policy, fields)
        self._take_step = take_step

    async def act(self, observation: npt.ArrayLike, **fields: Any) -> int:
        """As `Episode.act`."""
        question = self._question(observation, fields)
        return self._note_answer(await self._take_step(self.episode_id, self.step, **question))

    async def reward(
        self,
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
        final_observation: npt.ArrayLike | None = None,
    ) -> None:
        """As `Episode.reward`."""
        is_over = bool(terminated or truncated)
        self._note_reward(reward, is_over=is_over)
        if is_over:
            report = self._last_report(terminated, truncated, final_observation)
            answer = await self._take_step(self.episode_id, self.step, **report)
            self.durable_step = max(self.durable_step, answer.durable_step)
