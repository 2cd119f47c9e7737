"""Traffic whose every record has a number, and the numbers that were accepted."""

import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import Final

POLICY: Final = "faults"
_TIMEOUT_SECONDS: Final = 5.0
_OUTCOMES: Final = 4


class Load:
    """Threads that report outcomes and transitions and ask for actions, each record once.

    A record counts as accepted when a 200 has been read that says so. Nothing is sent again: what
    was sent without an answer may be in the log, once.
    """

    def __init__(
        self, find_port: Callable[[], int], num_threads: int, pause_seconds: float
    ) -> None:
        self._find_port = find_port
        self._pause_seconds = pause_seconds
        self._numbers = count()
        self._mutex = threading.Lock()
        self.accepted: set[str] = set()
        self.num_sent = 0
        self.num_failed = 0
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(num_threads)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, after the requests in hand."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection: HTTPConnection | None = None
        while not self._stopping.is_set():
            path, body, names = self._next()
            try:
                if connection is None:
                    connection = HTTPConnection(
                        "127.0.0.1", self._find_port(), timeout=_TIMEOUT_SECONDS
                    )
                connection.request("POST", path, json.dumps(body))
                with connection.getresponse() as response:
                    answer = json.loads(response.read())
                self._note(names, response.status, answer)
            except (OSError, HTTPException, ValueError):
                self.num_failed += 1
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
            time.sleep(self._pause_seconds)
        if connection is not None:
            connection.close()

    def _next(self) -> tuple[str, dict[str, object], list[str]]:
        with self._mutex:
            number = next(self._numbers)
            self.num_sent += 1
        if number % 4 == 1:
            name = f"t{number}"
            observation = [0.0, 0.0, 0.0, 0.0]
            transition = {
                "transition_id": name, "observation": observation, "action": 1,
                "reward": 1.0, "next_observation": observation,
            }  # fmt: skip
            return "/v1/transitions", {"transitions": [transition]}, [name]
        if number % 4 == 3:
            observations = [[0.0, 0.0, 0.1, 0.0]]
            return "/v1/actions", {"observations": observations, "decision_id": f"d{number}"}, []
        names = [f"o{number}.{index}" for index in range(_OUTCOMES)]
        return "/v1/outcomes", {"outcomes": [_outcome(name) for name in names]}, names

    def _note(self, names: list[str], status: int, answer: dict[str, object]) -> None:
        if status == 200 and names:
            if answer.get("accepted") != len(names):
                raise ValueError(f"expected {len(names)} accepted, found {answer}")
            with self._mutex:
                self.accepted.update(names)
        elif status != 200:
            self.num_failed += 1


def _outcome(name: str) -> dict[str, object]:
    return {"episode_id": name, "step": 0, "reward": 1.0}
