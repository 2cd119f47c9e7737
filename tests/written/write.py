"""Writes a small one of everything that outlives a release: `python -m tests.written.write FOLDER`.

To be run once a release, into a folder of its name. What is there is never written again.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from contract.ledger import LEDGER_FILE, Entry, FileLedger
from contract.records import (
    AnsweredBy,
    Column,
    DecisionBatch,
    Outcome,
    Record,
    TransitionRecord,
    encode_record,
)
from contract.replicas import Replica
from contract.segment_reader import SHIPPED_FILE
from contract.segments import SegmentWriter
from recorder.shard_log import Sealable, ShardLog
from recorder.shards import Entry as ShardEntry
from tests import builders

PRODUCER: Final = "worker"
SEALED_AT: Final = 2000.0


def records() -> list[Record]:
    """One of each kind, with all of its fields set to what no default is."""
    frames = Column.of(np.array([[0.5, 1.5], [2.5, 3.5]], dtype=np.float32))
    frame = Column.of(np.array([4.5, 5.5], dtype=np.float32))
    decisions = DecisionBatch(
        policy="cartpole",
        schema_hash="schema",
        time=1000.25,
        decision_ids=["a", "b"],
        row_counts=[1, 1],
        episode_ids=["e", None],
        steps=[3, None],
        observations=frames,
        action_masks=Column.of(np.array([[True, False], [True, True]])),
        actions=Column.of(np.array([0, 1])),
        propensities=Column.of(np.array([0.75, 0.25], dtype=np.float32)),
        q_values=Column.of(np.array([[1.0, -1.0], [0.5, 2.0]], dtype=np.float16)),
        answered_by=[
            AnsweredBy(2, "canary", "model", None, "cartpole@2"),
            AnsweredBy(1, "stable", "heuristic", "nan", "heuristic/constant@h"),
        ],
        answered_by_index=[0, 1],
        epsilon=0.5,
        is_late=True,
        tags=[{"region": "north"}, None],
        logged_share=0.5,
    )
    outcome = Outcome(
        policy="cartpole",
        time=1001.25,
        decision_id="a",
        row=0,
        episode_id="e",
        step=3,
        reward=-2.5,
        terminated=True,
        truncated=True,
        final_observation=frame,
    )
    transition = TransitionRecord(
        policy="cartpole",
        schema_hash="schema",
        time=1002.25,
        transition_id="t",
        episode_id="f",
        step=7,
        observation=frame,
        action=1,
        reward=3.5,
        next_observation=frame,
        terminated=False,
        truncated=True,
        propensity=0.125,
        behaviour="agent",
        logged_share=0.25,
    )
    return [decisions, outcome, transition]


def entries() -> list[Entry]:
    """A trial that was begun, judged and rolled back."""
    plan = {"stages": [{"share": 0.1, "hold_seconds": 60.0, "minimum_blocks": 5}], "mode": "auto"}
    told = [
        Entry(action="promote", policy="cartpole", version=1, who="ada", why="first", key="k"),
        Entry(
            action="canary",
            policy="cartpole",
            version=2,
            who="retraining",
            why="better by 3 %",
            details={"plan": plan, "rollout_id": "r"},
        ),
        Entry(
            action="abort",
            policy="cartpole",
            version=2,
            who="judge",
            why="worse by 12 %",
            details={"rollout_id": "r", "outcome": "rolled_back"},
        ),
    ]
    return [
        msgspec.structs.replace(entry, at=f"2026-11-22T10:00:0{number}.000+00:00")
        for number, entry in enumerate(told)
    ]


def main() -> None:
    """Write spool, stream, ledger, replica, bundle and shard below a new folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    contents = [encode_record(record) for record in records()]

    spool = folder / "spool" / PRODUCER
    spool.mkdir(parents=True)
    writer = SegmentWriter(spool, 41)
    writer.append(contents)
    writer.close()
    (spool / SHIPPED_FILE).write_text("41", encoding="ascii")

    fields = [
        {"producer": PRODUCER, "sequence": str(number), "record": content}
        for number, content in enumerate(contents, 41)
    ]
    (folder / "stream.msgpack").write_bytes(msgspec.msgpack.encode(fields))

    ledger = FileLedger(folder / LEDGER_FILE)
    for position, entry in enumerate(entries()):
        ledger.append(entry, after=position)
    replica = Replica(
        name="box/worker", at=1000.5, position=3, warm={"cartpole": [1, 2]},
        faults={"cartpole/3": "altered"}, is_cut_off=True,
    )  # fmt: skip
    (folder / "replica.json").write_bytes(msgspec.json.encode(replica))

    builders.write_policy(folder / "policies", profile=builders.profile(), floor=9.5)

    sealed = [
        Sealable(ShardEntry(PRODUCER, 5, number, content), 1000.0 + number, "schema")
        for number, content in enumerate(contents, 41)
    ]
    ShardLog(folder / "shards", "cartpole").append(sealed, SEALED_AT, "recorder")


if __name__ == "__main__":
    main()
