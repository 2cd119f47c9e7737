"""The same calls for asyncio. One client serves any number of tasks."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import numpy.typing as npt

from dqn_client.client import failure_of, response_of
from dqn_client.episodes import AsyncEpisode, new_episode_id
from dqn_client.local import LocalPolicy
from dqn_client.messages import (
    Answer,
    Call,
    ClientError,
    OutcomeReport,
    StepAnswer,
    actions_call,
    change_call,
    decode_accepted,
    get_call,
    outcomes_call,
    step_call,
    transitions_call,
)
from dqn_client.retries import (
    DEFAULT_RETRIES,
    Failure,
    Response,
    RetryBudget,
    RetryPolicy,
    Sleep,
    attempts,
)


class AsyncClient:
    """A pool of connections to a server; arguments and errors are those of `Client`."""

    def __init__(
        self,
        server: str,
        key: str | None = None,
        timeout_seconds: float = 5.0,
        *,
        retries: RetryPolicy = DEFAULT_RETRIES,
        local: LocalPolicy | None = None,
    ) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(base_url=server, headers=headers)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._budget = RetryBudget()
        self._rng = random.Random()
        self._local = local

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def act(
        self,
        observations: npt.ArrayLike,
        *,
        policy: str | None = None,
        episode_ids: Sequence[str] | None = None,
        steps: Sequence[int] | None = None,
        action_masks: npt.ArrayLike | None = None,
        deadline_ms: float | None = None,
        within_seconds: float | None = None,
        **fields: Any,
    ) -> Answer:
        """As `Client.act`."""
        call = actions_call(
            observations,
            new_episode_id(),
            is_timed=within_seconds is not None,
            policy=policy,
            episode_ids=episode_ids,
            steps=steps,
            action_masks=action_masks,
            deadline_ms=deadline_ms,
            **fields,
        )
        try:
            return msgspec.json.decode(await self._send(call, within_seconds), type=Answer)
        except ClientError as error:
            if self._local is None or not error.is_transient:
                raise
            return self._local.act(observations, action_masks, policy)

    async def step(
        self,
        episode_id: str,
        step: int,
        observation: npt.ArrayLike | None = None,
        *,
        within_seconds: float | None = None,
        **fields: Any,
    ) -> StepAnswer:
        """As `Client.step`."""
        call = step_call(
            episode_id,
            step,
            is_timed=within_seconds is not None,
            observation=observation,
            **fields,
        )
        try:
            return msgspec.json.decode(await self._send(call, within_seconds), type=StepAnswer)
        except ClientError as error:
            if self._local is None or not error.is_transient:
                raise
            return self._local.step(episode_id, step, observation, **fields)

    def episode(self, policy: str | None = None, **fields: Any) -> AsyncEpisode:
        """As `Client.episode`; its calls are awaited."""
        return AsyncEpisode(self.step, policy, **fields)

    async def report(self, outcomes: Sequence[OutcomeReport | Mapping[str, Any]]) -> int:
        """As `Client.report`."""
        return decode_accepted(await self._send(outcomes_call(outcomes)))

    async def record(self, transitions: Sequence[Mapping[str, Any]]) -> int:
        """As `Client.record`."""
        return decode_accepted(await self._send(transitions_call(transitions)))

    async def get(self, path: str) -> Any:
        """As `Client.get`."""
        return msgspec.json.decode(await self._send(get_call(path)))

    async def change(self, policy: str, action: str, body: Mapping[str, Any]) -> Any:
        """As `Client.change`."""
        return msgspec.json.decode(await self._send(change_call(policy, action, body)))

    async def _send(self, call: Call, within_seconds: float | None = None) -> bytes:
        patience = self._timeout_seconds if within_seconds is None else within_seconds
        steps = attempts(call, self._retries, self._budget, patience, time.monotonic, self._rng)
        came: Response | Failure | None = None
        try:
            while True:
                todo = steps.send(came)
                if isinstance(todo, Sleep):
                    await asyncio.sleep(todo.seconds)
                    came = None
                else:
                    came = await self._try(call, todo.content, todo.timeout_seconds)
        except StopIteration as done:
            content: bytes = done.value
            return content

    async def _try(
        self, call: Call, content: bytes | None, timeout_seconds: float
    ) -> Response | Failure:
        try:
            found = await self._http.request(
                call.method, call.path, content=content, timeout=max(timeout_seconds, 1e-3)
            )
        except httpx.HTTPError as error:
            return failure_of(error, self._http.base_url)
        return response_of(found)
