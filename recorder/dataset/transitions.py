"""Logged transitions as arrays, and one part of a dataset as a source of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contract.transitions import Ending
from recorder.dataset.frames import UNKNOWN_ROW, FrameReader
from recorder.dataset.manifest import PartManifest
from recorder.dataset.tables import EPISODES, OBSERVATIONS, STEPS, filled_lists

NO_VERSION = -1


class LoggedTransitions(NamedTuple):
    """N logged transitions, one array per field."""

    observations: npt.NDArray[Any]
    """[N, *shape], as they were acted on."""
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    """As they were reported, before any transform."""
    next_observations: npt.NDArray[Any]
    """[N, *shape]; zeros where they are not known and where nothing follows."""
    has_next_observations: npt.NDArray[np.bool_]
    """False where nothing is known of what follows: a step to learn from is terminated, or has
    its next observation."""
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    propensities: npt.NDArray[np.float32]
    """Probability with which the action was chosen; NaN where the agent did not say."""
    epsilons: npt.NDArray[np.float32]
    """Probability of a random action."""
    q_values: npt.NDArray[np.float16]
    """[N, num_actions]; NaN where the model did not answer."""
    action_masks: npt.NDArray[np.bool_]
    """[N, num_actions]; true where an action was legal."""
    behaviours: npt.NDArray[np.int32]
    """Who is to be weighed as having acted: an index into the dataset's `behaviours`."""
    versions: npt.NDArray[np.int32]
    """NO_VERSION where no model was loaded, or an agent chose by itself."""
    episodes: npt.NDArray[np.int32]
    """Which episode each is of: a number that no other episode of the dataset has."""
    steps: npt.NDArray[np.int32]
    """Number of the step within its episode."""
    times: npt.NDArray[np.float64]
    """Unix seconds of the decision."""
    logged_shares: npt.NDArray[np.float32]
    """Probability with which the episode was logged: it counts for its inverse."""

    @property
    def can_be_learned_from(self) -> npt.NDArray[np.bool_]:
        """Whether a temporal-difference target exists, [N]."""
        return self.terminated | self.has_next_observations


class LoggedEpisode(NamedTuple):
    """One closed episode and its steps that were joined, ascending."""

    episode_id: str
    ending: Ending
    is_complete: bool
    """Every step from 0 to the last one is there."""
    episode_return: float
    """The undiscounted sum of rewards."""
    started_at: float
    """Unix seconds, as is `ended_at`."""
    ended_at: float
    behaviours: tuple[str, ...]
    """Who acted."""
    transitions: LoggedTransitions


class Part:
    """One part, opened: its steps as columns in memory, its observations compressed."""

    def __init__(
        self,
        manifest: PartManifest,
        tables: dict[str, pa.Table],
        behaviours: tuple[str, ...],
        num_actions: int,
        first_episode: int,
        max_held_bytes: int,
    ) -> None:
        self.manifest = manifest
        episodes, steps, chunks = (tables[name] for name in (EPISODES, STEPS, OBSERVATIONS))
        self.episodes = episodes
        """The table `episodes`."""
        self.steps = steps
        """The table `steps`."""
        self.first_steps = np.concatenate(([0], np.cumsum(_numpy(episodes["num_steps"]))))
        """Of each episode, and after the last one."""
        self._reader = FrameReader(
            manifest.layout,
            chunks["content"].combine_chunks(),
            _numpy(chunks["num_rows"]).astype(np.int64),
            max_held_bytes,
        )
        num_steps = _numpy(episodes["num_steps"])
        first_rows = np.cumsum(_numpy(episodes["num_rows"]), dtype=np.int64)
        first_rows -= _numpy(episodes["num_rows"])
        offsets = np.repeat(first_rows, num_steps)
        next_rows = _numpy(steps["next_observation_row"]).astype(np.int64)
        self._rows = _numpy(steps["observation_row"]) + offsets
        self._next_rows = np.where(next_rows == UNKNOWN_ROW, UNKNOWN_ROW, next_rows + offsets)
        self._columns: dict[str, npt.NDArray[Any]] = {
            "actions": _numpy(steps["action"]).astype(np.int64),
            "rewards": _numpy(steps["reward"]).astype(np.float32),
            "terminated": _numpy(steps["terminated"]),
            "truncated": _numpy(steps["truncated"]),
            "propensities": _numpy(steps["propensity"]),
            "epsilons": _numpy(steps["epsilon"]),
            "action_masks": filled_lists(steps["action_mask"], num_actions, True, np.bool_),
            "logged_shares": _numpy(steps["logged_share"]),
            "q_values": filled_lists(steps["q_values"], num_actions, np.nan, np.float16),
            "behaviours": _codes(steps["behaviour"], behaviours),
            "versions": _numpy(steps["version"].fill_null(NO_VERSION)),
            "episodes": np.repeat(
                np.arange(first_episode, first_episode + len(episodes), dtype=np.int32), num_steps
            ),
            "steps": _numpy(steps["step"]),
            "times": _numpy(steps["time"]),
        }

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, places: npt.NDArray[np.int64]) -> LoggedTransitions:
        """The transitions at these places in [0, len), in this order."""
        rows, next_rows = self._rows[places], self._next_rows[places]
        # In one call, since both nearly always lie in the same chunk.
        both = self._reader.read(np.concatenate((rows, next_rows)))
        return LoggedTransitions(
            observations=both[: len(rows)],
            next_observations=both[len(rows) :],
            has_next_observations=next_rows != UNKNOWN_ROW,
            **{name: column[places] for name, column in self._columns.items()},
        )

    def read_episodes(self, chosen: npt.NDArray[np.bool_]) -> Iterator[LoggedEpisode]:
        """The episodes that are chosen, [number of episodes], in order."""
        for number, row in enumerate(self.episodes.to_pylist()):
            if chosen[number]:
                steps = np.arange(self.first_steps[number], self.first_steps[number + 1])
                yield LoggedEpisode(
                    episode_id=row["episode_id"],
                    ending=row["ending"],
                    is_complete=row["is_complete"],
                    episode_return=row["episode_return"],
                    started_at=row["started_at"],
                    ended_at=row["ended_at"],
                    behaviours=tuple(row["behaviours"]),
                    transitions=self.take(steps),
                )

    def steps_of(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Places of the steps of the episodes that are chosen, ascending."""
        return np.flatnonzero(np.repeat(chosen, np.diff(self.first_steps)))


def _codes(column: pa.ChunkedArray, words: tuple[str, ...]) -> npt.NDArray[np.int32]:
    """Each value as its place among the words."""
    encoded = column.combine_chunks()
    places = np.array([words.index(word) for word in encoded.dictionary.to_pylist()], np.int32)
    codes: npt.NDArray[np.int32] = places[encoded.indices.to_numpy()]
    return codes


def _numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = column.to_numpy()
    return array
