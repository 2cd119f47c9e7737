"""What a cycle reads: the episodes that were sealed when it began, and checkpoints."""

from pathlib import Path

from contract.bundle import read_bundle
from recorder.dataset.load import Dataset, Selection, read_dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.quarantine import active_quarantines
from recorder.dataset.store import DatasetStore
from retraining.config import RetrainConfig
from retraining.learning import known_of
from retraining.reading import Reading, read_log
from retraining.state import CycleError, CycleState
from retraining.versions import find_checkpoint
from training.checkpoint import Checkpoint, CheckpointError, read_checkpoint

CANDIDATE_FOLDER = "candidate"


class Sources:
    """One policy's log and checkpoints."""

    def __init__(self, config: RetrainConfig) -> None:
        self._config = config
        self._store = DatasetStore(config.dataset_root)
        self._held: tuple[Dataset, Reading] | None = None

    def num_steps(self, since: float) -> int:
        """Sealed steps of episodes that began then or later."""
        try:
            dataset = read_dataset(self._store, self._config.policy, Selection(begin=since))
        except DatasetError:
            return 0
        opened = dataset.opened(dataset.manifests)
        return sum(len(part.steps_of(chosen)) for part, chosen in opened)

    def dataset(self, state: CycleState) -> Dataset:
        """Episodes that had begun when the cycle did; once it has collected, of the same parts.

        Raises:
            DatasetError: There are none.
        """
        parts = None if state.dataset_parts is None else frozenset(state.dataset_parts)
        selection = Selection(end=state.started_at, parts=parts)
        return read_dataset(self._store, self._config.policy, selection)

    def read(self, state: CycleState, dataset: Dataset) -> Reading:
        """A dataset without the episodes that do not fit the parent version.

        Raises:
            DatasetError: Nothing is selected, or observations are not of one shape.
            CycleError: The parent's checkpoint is missing.
        """
        known = known_of(self.parent(state), state.parent or 0)
        reading = read_log(dataset, known, self._config.most_steps)
        self._held = dataset, reading
        return reading

    def read_again(self, state: CycleState) -> Reading | None:
        """What the cycle collected; None where some of it is gone or quarantined by now.

        What this process has read stays as it was read: the recorder may have joined its parts
        meanwhile, and a cycle that outlasts every build would never end.
        """
        if self._held is not None:
            dataset, reading = self._held
            active = active_quarantines(self._store, self._config.policy)
            if (dataset.sha256, dataset.quarantines) == (state.dataset_sha256, active):
                return reading
        try:
            dataset = self.dataset(state)
            if dataset.sha256 != state.dataset_sha256:
                return None
            return self.read(state, dataset)
        except DatasetError:
            return None

    def let_go(self) -> None:
        """Free what was read: between two cycles there may be hours."""
        self._held = None

    def parent(self, state: CycleState) -> Checkpoint:
        """What the stable version was exported from.

        Raises:
            CycleError: It is missing, or cannot be read.
            BundleError: The version cannot be read.
        """
        manifest = read_bundle(self._config.policy_directory / str(state.parent)).manifest
        return _read(find_checkpoint(manifest, self._config.checkpoint_roots))

    def candidate(self, state: CycleState) -> Checkpoint:
        """What the cycle learned.

        Raises:
            CycleError: It is missing, or cannot be read.
        """
        return _read(self.candidate_folder(state))

    def candidate_folder(self, state: CycleState) -> Path:
        """Where the cycle's checkpoint is."""
        return self._config.folder / state.cycle_id / CANDIDATE_FOLDER


def _read(folder: Path) -> Checkpoint:
    try:
        return read_checkpoint(folder)
    except CheckpointError as error:
        raise CycleError(str(error)) from error
