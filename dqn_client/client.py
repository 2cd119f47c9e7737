"""Calls to the service, typed. One client a thread: it owns one connection."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import numpy as np
import numpy.typing as npt


class ClientError(Exception):
    """The service refused, or could not be reached."""

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None where no answer came."""
        self.code = code
        """The service's own code, such as `invalid_observation`."""


class AnsweredBy(msgspec.Struct, frozen=True):
    """Who chose."""

    version: int | None
    variant: str
    source: str
    """`model` or `heuristic`."""
    reason: str | None
    """Why a heuristic answered."""


class Answer(msgspec.Struct, frozen=True):
    """Actions for N observations."""

    policy: str
    decision_id: str
    """Row r is `<decision_id>/<r>`."""
    actions: list[int]
    propensities: list[float]
    answered_by: list[AnsweredBy]
    answered_by_index: list[int] | None = None
    q_values: list[list[float] | None] | None = None

    def by(self, row: int) -> AnsweredBy:
        """Who chose a row's action."""
        index = self.answered_by_index
        return self.answered_by[0 if index is None else index[row]]


class Client:
    """One connection to a server."""

    def __init__(self, server: str, key: str | None = None, timeout_seconds: float = 5.0) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=server, headers=headers, timeout=timeout_seconds)

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
        observations: npt.NDArray[Any],
        *,
        policy: str | None = None,
        episode_ids: Sequence[str] | None = None,
        steps: Sequence[int] | None = None,
        deadline_ms: float | None = None,
    ) -> Answer:
        """Ask which actions to take on observations [N, *shape].

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        body: dict[str, Any] = {"observations": np.asarray(observations).tolist()}
        given = {
            "policy": policy,
            "episode_ids": episode_ids,
            "steps": steps,
            "deadline_ms": deadline_ms,
        }
        body.update({name: value for name, value in given.items() if value is not None})
        return msgspec.json.decode(self._call("POST", "/v1/actions", body), type=Answer)

    def report(self, outcomes: Sequence[dict[str, Any]]) -> int:
        """Report outcomes; returns how many were accepted, all of them on the server's disk.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        answer = self._call("POST", "/v1/outcomes", {"outcomes": list(outcomes)})
        accepted: int = msgspec.json.decode(answer)["accepted"]
        return accepted

    def get(self, path: str) -> Any:
        """What a GET answers, decoded."""
        return msgspec.json.decode(self._call("GET", path, None))

    def change(self, policy: str, action: str, body: dict[str, Any]) -> Any:
        """An operator's call, such as `promote`; returns the ledger entry and the policy.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        return msgspec.json.decode(self._call("POST", f"/v1/policies/{policy}/{action}", body))

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        try:
            response = self._http.request(method, path, content=content)
        except httpx.HTTPError as error:
            raise ClientError(f"{self._http.base_url}: {error or type(error).__name__}") from error
        if response.status_code != 200:
            raise _refusal(response)
        return response.content


def _refusal(response: httpx.Response) -> ClientError:
    try:
        told = msgspec.json.decode(response.content)
        return ClientError(told["error"], response.status_code, told["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        text = response.text[:200]
        return ClientError(f"{response.status_code}: {text}", response.status_code)
