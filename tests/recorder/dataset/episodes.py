"""Small real episodes: as records, sealed into shards, built into a dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy, Column, Record, TransitionRecord, encode_record
from contract.transitions import Episode, Transition
from recorder.dataset.assembly import Assembler, PackedEpisode
from recorder.dataset.build import BuildReport, build
from recorder.dataset.load import Dataset, read_dataset
from recorder.dataset.store import DatasetStore
from recorder.shard_log import Sealable, ShardLog
from recorder.shards import Entry
from tests.builders import MODEL, POLICY, decision_batch, outcome

HEURISTIC = AnsweredBy(None, "stable", "heuristic", "deadline", "heuristic/constant@844d4773fb1b")
NOW = 2_000_000_000.0


def observation(number: float) -> npt.NDArray[np.float32]:
    return np.array([number, -number, number / 3, 0.5], dtype=np.float32)


def episode_records(
    episode_id: str,
    rewards: Sequence[float],
    *,
    begin: float = 1000.0,
    answered_by: AnsweredBy = MODEL,
    observations: npt.NDArray[Any] | None = None,
    ending: str | None = "terminated",
    final: npt.NDArray[Any] | None = None,
    actions: Sequence[int] | None = None,
    **changes: Any,
) -> list[Record]:
    """A decision and an outcome a step, a second apart; `ending` None leaves the end open.

    Changes are the decisions' fields.
    """
    records: list[Record] = []
    for step, reward in enumerate(rewards):
        seen = observation(begin + step) if observations is None else observations[step]
        is_last = step == len(rewards) - 1
        records.append(
            decision_batch(
                seen[None],
                actions=[step % 2 if actions is None else actions[step]],
                decision_ids=[f"{episode_id}-{step}"],
                episode_ids=[episode_id],
                steps=[step],
                time=begin + step,
                answered_by=[answered_by],
                propensities=Column.of(np.array([0.75], np.float32)),
                **({"q_values": Column.of(np.array([[step, -1.0]], np.float16))} | changes),
            )
        )
        records.append(
            outcome(
                reward,
                time=begin + step + 0.5,
                episode_id=episode_id,
                step=step,
                terminated=is_last and ending == "terminated",
                truncated=is_last and ending == "truncated",
                final_observation=Column.of(final) if is_last and final is not None else None,
            )
        )
    return records


class Log:
    """A policy's shards in a folder, sealed as the recorder seals them."""

    def __init__(self, folder: Path, sequence: int = 0) -> None:
        self.folder = folder
        self._log = ShardLog(folder, POLICY)
        self._sequence = sequence

    def seal(self, records: Sequence[Record]) -> None:
        """One more shard."""
        sealables = [
            Sealable(
                Entry("w", None, self._sequence + place, encode_record(record)),
                record.time,
                None,
            )
            for place, record in enumerate(records)
        ]
        self._sequence += len(records)
        assert self._log.append(sealables, NOW, "test") is not None


def sealed_log(folder: Path, *shards: Sequence[Record]) -> Log:
    log = Log(folder)
    for records in shards:
        log.seal(records)
    return log


def built(log: Log, store: DatasetStore, **changes: Any) -> BuildReport:
    return build(log.folder, store, POLICY, NOW, **changes)


def dataset_of(tmp_path: Path, *records: Record) -> Dataset:
    """Records sealed into one shard and built into a dataset below `tmp_path`."""
    store = DatasetStore(tmp_path / "datasets")
    built(sealed_log(tmp_path / "shards", records), store)
    return read_dataset(store, POLICY)


def all_of(items: Sequence[Transition | Episode]) -> list[PackedEpisode]:
    assembler = Assembler()
    return [packed for item in items for packed in assembler.add(item)]


def reported(step: int, **changes: Any) -> TransitionRecord:
    """A whole transition of the episode `agent-1`."""
    fields: dict[str, Any] = {
        "policy": POLICY,
        "schema_hash": "0123456789abcdef",
        "time": 1000.0 + step,
        "transition_id": f"t-{step}",
        "episode_id": "agent-1",
        "step": step,
        "observation": Column.of(observation(step)),
        "action": 1,
        "reward": 1.0 + step,
        "next_observation": Column.of(observation(step + 1)),
        "terminated": False,
        "truncated": False,
        "propensity": None,
        "behaviour": "agent/1",
    }
    return TransitionRecord(**(fields | changes))
