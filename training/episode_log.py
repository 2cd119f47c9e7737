"""The log of a run: a line of JSON for every episode and evaluation, and TensorBoard beside it."""

import json
import os
from pathlib import Path
from typing import Any, Protocol

from contract.declaration import Record

EPISODES_FILE = "episodes.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class EpisodeRecord(Record):
    """One episode of the behaviour policy, as logged."""

    steps: int
    """Environment steps of the run when the episode ended."""

    episode: int
    episode_return: float
    length: int
    mean_max_q: float
    """Mean over the episode of max over actions of Q."""

    epsilon: float
    loss: float | None
    """Mean loss of the latest round of updates; `None` before the first."""

    learning_rate: float


class EvaluationRecord(Record):
    """One evaluation, as logged."""

    steps: int
    episodes: int
    mean_return: float
    mean_length: float
    mean_start_q: float
    mean_start_return: float
    """Discounted and transformed, to compare with `mean_start_q`."""


class ScalarWriter(Protocol):
    """What is used of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add one point to the curve `tag`."""

    def close(self) -> None:
        """Flush and stop."""


class EpisodeLog:
    """Appends records to the files of a run."""

    def __init__(self, out: Path, *, tensorboard: bool, positions: dict[str, int] | None) -> None:
        """Open the files.

        Args:
            out: The run's folder.
            tensorboard: Whether to write for TensorBoard too, if it is installed.
            positions: What `positions` gave when the run was saved that this one resumes: what
                was logged later is cut off. `None` begins anew.
        """
        out.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for name in (EPISODES_FILE, EVALUATIONS_FILE):
            file = (out / name).open("ab")
            file.truncate(0 if positions is None else positions[name])
            self._files[name] = file
        self._scalars = _open_tensorboard(out / TENSORBOARD_FOLDER) if tensorboard else None

    def add_episode(self, record: EpisodeRecord) -> None:
        """Log an episode."""
        self._add(EPISODES_FILE, "episode", record)

    def add_evaluation(self, record: EvaluationRecord) -> None:
        """Log an evaluation; whoever watches the run may read it at once."""
        self._add(EVALUATIONS_FILE, "evaluation", record)
        self._files[EVALUATIONS_FILE].flush()

    def positions(self) -> dict[str, int]:
        """Bytes of each file so far, all of them on the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def close(self) -> None:
        """Flush and close."""
        for file in self._files.values():
            file.close()
        if self._scalars is not None:
            self._scalars.close()

    def _add(self, name: str, group: str, record: EpisodeRecord | EvaluationRecord) -> None:
        values: dict[str, Any] = record.model_dump()
        self._files[name].write(json.dumps(values).encode() + b"\n")
        if self._scalars is None:
            return
        for tag, value in values.items():
            if tag != "steps" and value is not None:
                self._scalars.add_scalar(f"{group}/{tag}", value, record.steps)


def _open_tensorboard(folder: Path) -> ScalarWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer: ScalarWriter = SummaryWriter(str(folder))
    return writer
