"""Steps of a dataset by a tag, or by who acted and why: where does an incident sit?"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from recorder.dataset.load import Dataset

COLUMNS: Final = ("version", "variant", "source", "reason", "behaviour")
"""What steps can be told apart by, beside their tags."""
ABSENT: Final = "-"
"""Stands for steps without the tag, or without a value."""


class Group(NamedTuple):
    """The steps that have one value."""

    value: str
    num_steps: int
    num_episodes: int
    """With at least one such step."""
    mean_reward: float
    """Per step."""
    heuristic_share: float
    """Share of steps in which a heuristic acted."""


def break_down(dataset: Dataset, by: str) -> list[Group]:
    """Groups by a column of COLUMNS, else by the tag of that name; the largest first."""
    values: list[npt.NDArray[Any]] = []
    columns: list[npt.NDArray[np.float64]] = []
    for part, chosen in dataset.opened(dataset.manifests):
        places = part.steps_of(chosen)
        episodes = np.repeat(np.arange(len(part.episodes)), np.diff(part.first_steps))
        heuristic = compute.equal(part.steps["source"].cast(pa.string()), "heuristic")
        rewards = part.steps["reward"].to_numpy()
        first = sum(len(np.unique(each[:, 0])) for each in columns)
        numbers = np.unique(episodes[places], return_inverse=True)[1] + first
        values.append(_values(part.steps, by)[places])
        columns.append(np.stack((numbers, rewards[places], heuristic.to_numpy()[places]), axis=1))
    if not values:
        return []
    names, codes = np.unique(np.concatenate(values), return_inverse=True)
    together = np.concatenate(columns)
    groups = [_group(str(name), together[codes == code]) for code, name in enumerate(names)]
    return sorted(groups, key=lambda group: (-group.num_steps, group.value))


def _group(value: str, rows: npt.NDArray[np.float64]) -> Group:
    return Group(
        value=value,
        num_steps=len(rows),
        num_episodes=len(np.unique(rows[:, 0])),
        mean_reward=float(rows[:, 1].mean()),
        heuristic_share=float(rows[:, 2].mean()),
    )


def _values(steps: pa.Table, by: str) -> npt.NDArray[Any]:
    """Each step's value as a word, [number of steps]."""
    if by in COLUMNS:
        column = steps[by].cast(pa.string())
    else:
        column = compute.map_lookup(steps["tags"], pa.scalar(by), "first")
    words: npt.NDArray[Any] = column.fill_null(ABSENT).to_numpy().astype(str)
    return words
