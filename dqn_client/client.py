"""Calls to the service from a thread. One client a thread: it owns one connection."""

import random
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import numpy.typing as npt

from dqn_client.episodes import Episode, new_episode_id
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
    parse_retry_after,
)


class Client:
    """One connection to a server.

    Args:
        server: Its address, such as `http://127.0.0.1:8000`.
        key: Sent as a bearer token.
        timeout_seconds: How long a call waits, retries included, where it does not say itself.
        retries: How often a call that failed for now is made again.
        local: Answers `act` and `step` here where the server cannot be reached; without it they
            raise.
    """

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
        self._http = httpx.Client(base_url=server, headers=headers)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._budget = RetryBudget()
        self._rng = random.Random()
        self._local = local

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def act(
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
        """Ask which actions to take on observations [N, *shape].

        Args:
            observations: As the policy declares them.
            policy: May be left out where the server has a default.
            episode_ids: One a row.
            steps: One a row.
            action_masks: [N, num_actions], true where legal.
            deadline_ms: How long the server may take; its own default where not given.
            within_seconds: How long the caller waits, retries included. The server is told, and
                answers by its heuristic rather than later.
            **fields: Whatever else the call takes, such as `include_q_values=True`.

        Raises:
            ClientError: The service refused, or could not be reached and there is no local policy.
        """
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
            return msgspec.json.decode(self._send(call, within_seconds), type=Answer)
        except ClientError as error:
            if self._local is None or not error.is_transient:
                raise
            return self._local.act(observations, action_masks, policy)

    def step(
        self,
        episode_id: str,
        step: int,
        observation: npt.ArrayLike | None = None,
        *,
        within_seconds: float | None = None,
        **fields: Any,
    ) -> StepAnswer:
        """One step of an episode: report the reward of the step before, get the next action.

        Args:
            episode_id: From `new_episode_id`.
            step: From 0.
            observation: One frame [*shape]; None on the last report.
            within_seconds: As for `act`.
            **fields: `policy`, `reward`, `terminated`, `truncated`, `final_observation`,
                `action_mask` and whatever else the call takes.

        Raises:
            ClientError: The service refused, or could not be reached and there is no local policy.
        """
        call = step_call(
            episode_id,
            step,
            is_timed=within_seconds is not None,
            observation=observation,
            **fields,
        )
        try:
            return msgspec.json.decode(self._send(call, within_seconds), type=StepAnswer)
        except ClientError as error:
            if self._local is None or not error.is_transient:
                raise
            return self._local.step(episode_id, step, observation, **fields)

    def episode(self, policy: str | None = None, **fields: Any) -> Episode:
        """A new episode; `fields` go with each of its steps, such as `within_seconds=0.1`."""
        return Episode(self.step, policy, **fields)

    def report(self, outcomes: Sequence[OutcomeReport | Mapping[str, Any]]) -> int:
        """Report outcomes; returns how many were accepted, all of them on the server's disk.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        return decode_accepted(self._send(outcomes_call(outcomes)))

    def record(self, transitions: Sequence[Mapping[str, Any]]) -> int:
        """Report whole transitions; returns how many were accepted, as `report`.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        return decode_accepted(self._send(transitions_call(transitions)))

    def get(self, path: str) -> Any:
        """What a GET answers, decoded.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        return msgspec.json.decode(self._send(get_call(path)))

    def change(self, policy: str, action: str, body: Mapping[str, Any]) -> Any:
        """An operator's call, such as `promote`; returns the ledger entry and the policy.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        return msgspec.json.decode(self._send(change_call(policy, action, body)))

    def _send(self, call: Call, within_seconds: float | None = None) -> bytes:
        patience = self._timeout_seconds if within_seconds is None else within_seconds
        steps = attempts(call, self._retries, self._budget, patience, time.monotonic, self._rng)
        came: Response | Failure | None = None
        try:
            while True:
                todo = steps.send(came)
                if isinstance(todo, Sleep):
                    time.sleep(todo.seconds)
                    came = None
                else:
                    came = self._try(call, todo.content, todo.timeout_seconds)
        except StopIteration as done:
            content: bytes = done.value
            return content

    def _try(self, call: Call, content: bytes | None, timeout_seconds: float) -> Response | Failure:
        try:
            found = self._http.request(
                call.method, call.path, content=content, timeout=max(timeout_seconds, 1e-3)
            )
        except httpx.HTTPError as error:
            return failure_of(error, self._http.base_url)
        return response_of(found)


def response_of(found: httpx.Response) -> Response:
    """An answer, as `attempts` takes it."""
    retry_after = parse_retry_after(found.headers.get("retry-after"))
    return Response(found.status_code, found.content, retry_after)


def failure_of(error: httpx.HTTPError, server: httpx.URL) -> Failure:
    """That no answer came, as `attempts` takes it."""
    was_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return Failure(f"{server}: {str(error) or type(error).__name__}", was_sent)
