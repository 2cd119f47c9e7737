"""Agents that never pause, and what a bundle's profile says of what they see."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np

from contract.drift_reference import DriftReference, make_columns
from tests.builders import BIAS, WEIGHTS

RETURN = 200.0
"""Of an episode, as in training."""

_CALLS_A_SECOND = 50
_EPISODE_STEPS = 25
"""Q-values are held against what comes 20 steps later."""
_PROFILED_EPISODES = 84


@contextmanager
def traffic(service: str) -> Iterator[None]:
    """Decisions with their outcomes, and now and then a call that is refused."""
    is_over = threading.Event()
    faults: list[Exception] = []

    def live() -> None:
        with httpx.Client(base_url=service, timeout=10.0) as client:
            number = 0
            while not is_over.wait(1 / _CALLS_A_SECOND):
                number += 1
                try:
                    _act_and_report(client, number)
                except Exception as error:  # noqa: BLE001 - told by the test's own thread
                    faults.append(error)
                    return

    agents = threading.Thread(target=live, name="agents")
    agents.start()
    try:
        yield
    finally:
        is_over.set()
        agents.join()
    assert not faults, faults


def drift_reference() -> DriftReference:
    """As if training had seen what these agents see."""
    numbers = range(_PROFILED_EPISODES * _EPISODE_STEPS)
    seen = np.array([observation(number) for number in numbers])
    lengths = np.full(_PROFILED_EPISODES, _EPISODE_STEPS)
    return DriftReference(
        observations=make_columns(seen, lengths),
        q_values=make_columns(seen @ np.array(WEIGHTS).T + np.array(BIAS), lengths),
    )


def observation(number: int) -> list[float]:
    """Leans left in one call of three."""
    return [0.0, 0.0, 0.1 if number % 3 else -0.1, 0.01 * (number % 7)]


def _act_and_report(client: httpx.Client, number: int) -> None:
    rows = [observation(number)] * (1 + number % 4)
    answer = client.post("/v1/actions", json={"observations": rows}).raise_for_status()
    outcome = {"decision_id": f"{answer.json()['decision_id']}/0", "reward": 1.0}
    client.post("/v1/outcomes", json={"outcomes": [outcome]}).raise_for_status()
    name, step = f"episode-{number // _EPISODE_STEPS}", number % _EPISODE_STEPS
    asked = {"observations": rows[:1], "episode_ids": [name], "steps": [step]}
    client.post("/v1/actions", json=asked).raise_for_status()
    end = {
        "episode_id": name,
        "step": step,
        "reward": RETURN / _EPISODE_STEPS,
        "terminated": step == _EPISODE_STEPS - 1,
    }
    client.post("/v1/outcomes", json={"outcomes": [end]}).raise_for_status()
    if number % 10 == 0:
        assert client.post("/v1/actions", json={"observations": [[1.0]]}).status_code == 422
