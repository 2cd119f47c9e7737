"""Where a cycle stands, on disk after every stage: who dies goes on from there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from contract.declaration import Record
from contract.files import make_directory, replace_file
from retraining.gate import Verdict

Stage = Literal["collect", "learn", "judge", "export", "register", "shadow", "canary", "done"]
Outcome = Literal[
    "canary",
    "shadow",
    "blocked",
    "refused",
    "quarantined",
    "diverged",
    "too_little",
    "overtaken",
    "dry_run",
]
STATE_FILE = "cycle.json"
_LOCK_FILE = "lock"


class CycleError(Exception):
    """A cycle cannot run: another one does, or what it needs is missing."""


class HeldError(CycleError):
    """A trial or a person holds it: it runs afterwards, and nothing has failed."""


class CycleState(Record):
    """One cycle of one policy."""

    cycle_id: str
    policy: str
    started_at: float
    """Unix seconds; episodes that began later are the next cycle's."""
    seed: int
    is_dry_run: bool = False
    """It stops after the verdict, and leaves its steps to the next cycle."""
    stage: Stage = "collect"
    """What is to be done next."""
    outcome: Outcome | None = None
    """None: it is not over."""
    sentence: str = ""
    """Why it ended so."""
    parent: int | None = None
    """The stable version when it began."""
    dataset_id: str | None = None
    dataset_sha256: str | None = None
    dataset_parts: tuple[str, ...] | None = None
    """What was collected; parts that are built later are the next cycle's."""
    num_steps: int = 0
    num_episodes: int = 0
    suspicious: dict[str, int] = Field(default_factory=dict)
    candidates: tuple[tuple[float | None, int, float | None], ...] = ()
    """Alpha, updates and lower bound of the advantage of each: no alpha where it was learned in a
    model, no bound where its estimate cannot be."""
    diverged: dict[str, str] = Field(default_factory=dict)
    """Why runs were stopped, by their names."""
    chosen: tuple[float | None, int] | None = None
    checkpoint_sha256: str | None = None
    verdict: Verdict | None = None
    simulated_returns: dict[str, float] = Field(default_factory=dict)
    """Mean return of `current` and `candidate` in the environment, where it was played."""
    version: int | None = None
    bundle_sha256: str | None = None
    shadow_since: float | None = None
    finished_at: float | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is left to do."""
        return self.outcome is not None

    @property
    def is_inconclusive(self) -> bool:
        """The gate says neither that the candidate is good nor that it is bad."""
        return self.verdict is not None and self.verdict.decision == "inconclusive"


def run_name(alpha: float | None) -> str:
    """What a run of learning is called, before people and on disk."""
    return "model" if alpha is None else f"{alpha:g}"


@contextmanager
def only_cycle(folder: Path) -> Iterator[None]:
    """Hold a policy's lock; a holder that died has let it go.

    Raises:
        CycleError: Another process holds it.
    """
    make_directory(folder)
    with (folder / _LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CycleError(f"{folder}: another cycle of this policy is running") from error
        yield


def write_state(folder: Path, state: CycleState) -> None:
    """Write a cycle's state below a policy's folder, durably."""
    cycle = folder / state.cycle_id
    make_directory(cycle)
    replace_file(cycle / STATE_FILE, state.model_dump_json(indent=2).encode())


def read_states(folder: Path) -> list[CycleState]:
    """All cycles of a policy, oldest first.

    Raises:
        CycleError: One cannot be read.
    """
    states = []
    for path in folder.glob(f"*/{STATE_FILE}"):
        try:
            # Of a later release, after a downgrade: what it says more is passed over.
            states.append(CycleState.model_validate_json(path.read_bytes(), extra="ignore"))
        except ValidationError as error:
            raise CycleError(f"{path}: {error}") from error
    return sorted(states, key=lambda state: (state.started_at, state.cycle_id))
