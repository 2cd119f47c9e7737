"""Small records to join, and what comes of them."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.join import Join
from contract.records import AnsweredBy, Outcome, Record
from contract.transitions import Episode, Transition
from tests.builders import decision_batch, outcome

HEURISTIC = AnsweredBy(3, "stable", "heuristic", "deadline", "heuristic/constant@844d4773fb1b")
FOR_EVER = 1e12


def observation(number: float) -> npt.NDArray[np.float32]:
    return np.array([number, -number], dtype=np.float32)


def decide(episode_id: str | None, step: int | None, number: float = 0.0, **changes: Any) -> Record:
    """A decision named `<episode>-<step>/0` that saw `observation(number)`."""
    return decision_batch(
        [observation(number)],
        episode_ids=[episode_id],
        steps=[step],
        **({"decision_ids": [f"{episode_id}-{step}"]} | changes),
    )


def report(episode_id: str, step: int, reward: float = 1.0, **changes: Any) -> Outcome:
    return outcome(reward, episode_id=episode_id, step=step, **changes)


def join_all(join: Join, records: Iterable[Record]) -> list[Transition | Episode]:
    return [item for record in records for item in join.add(record)]


def transitions_in(items: Iterable[Transition | Episode]) -> list[Transition]:
    return [item for item in items if isinstance(item, Transition)]


def episodes_in(items: Iterable[Transition | Episode]) -> list[Episode]:
    return [item for item in items if isinstance(item, Episode)]


def comparable(items: Iterable[Transition | Episode]) -> Counter[tuple[object, ...]]:
    """How often each item is there; arrays as text, so that they compare."""
    return Counter(
        tuple(
            repr(value.tolist()) if isinstance(value, np.ndarray) else value
            for value in vars(item).values()
        )
        for item in items
    )


def three_steps(**last: Any) -> list[Record]:
    """An episode `e` with rewards 1, 2 and 4 that ends as `last` says."""
    return [
        decide("e", 0, 10, time=100.0),
        report("e", 0, 1.0, time=101.0),
        decide("e", 1, 11, time=102.0, answered_by=[HEURISTIC]),
        report("e", 1, 2.0, time=103.0),
        decide("e", 2, 12, time=104.0),
        report("e", 2, 4.0, time=105.0, **last),
    ]
