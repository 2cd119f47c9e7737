"""What one release writes, the release before and the one after it read: nothing is lost.

`tests/written/<release>` holds what releases wrote. What a later one may add is added here by hand.
"""

from pathlib import Path
from shutil import copytree
from typing import Any, Final

import msgspec
import pytest
import redis

from contract.bundle import read_bundle
from contract.fold import fold
from contract.ledger import LEDGER_FILE, Entry, FileLedger
from contract.manifest import ManifestError, decode_manifest, encode_manifest
from contract.records import (
    AnsweredBy,
    Column,
    DecisionBatch,
    Outcome,
    TransitionRecord,
    decode_record,
    encode_record,
)
from contract.replicas import Replica, fresh
from contract.rollout import PolicyState
from contract.segment_reader import SegmentReader, read_shipped
from contract.streams import POLICIES_KEY, records_key
from recorder.seal import Sealer, read_sealable
from recorder.shard_log import Sealable, ShardLog
from recorder.shards import (
    DEAD_LETTERS,
    Position,
    ShardError,
    read_entries,
    read_manifest,
    shard_path,
)
from recorder.shards import Entry as ShardEntry
from recorder.sources import Streams
from retraining.state import STATE_FILE, CycleState, read_states, write_state
from tests import builders
from tests.recorder.records import sealed_entries
from tests.written.write import PRODUCER, SEALED_AT, entries, records

WRITTEN: Final = Path(__file__).parent / "written"
RELEASES: Final = sorted(path.name for path in WRITTEN.iterdir() if path.name[0].isdigit())
each_release = pytest.mark.parametrize("release", RELEASES)

FIELDS: Final = {
    Column: ("dtype", "shape", "data"),
    AnsweredBy: ("version", "variant", "source", "reason", "behaviour"),
    DecisionBatch: (
        "policy", "schema_hash", "time", "decision_ids", "row_counts", "episode_ids", "steps",
        "observations", "action_masks", "actions", "propensities", "q_values", "answered_by",
        "answered_by_index", "epsilon", "is_late", "tags", "logged_share",
    ),
    Outcome: (
        "policy", "time", "decision_id", "row", "episode_id", "step", "reward", "terminated",
        "truncated", "final_observation",
    ),
    TransitionRecord: (
        "policy", "schema_hash", "time", "transition_id", "episode_id", "step", "observation",
        "action", "reward", "next_observation", "terminated", "truncated", "propensity",
        "behaviour", "logged_share",
    ),
}  # fmt: skip
"""Of 0.1, in their order: the names of what is written by place."""


def seal(redis_client: "redis.Redis", shards: Path, fields: list[Any]) -> list[ShardEntry]:
    """Put entries into a stream and seal it; what the shard then holds."""
    redis_client.sadd(POLICIES_KEY, "cartpole")
    for each in fields:
        redis_client.xadd(records_key("cartpole", 5), each)
    port = redis_client.connection_pool.connection_kwargs["port"]
    sources = Streams(f"redis://127.0.0.1:{port}", "me", 30.0)
    Sealer(shards, sources, 10**7, "me").seal(SEALED_AT)
    return sealed_entries(shards / "cartpole" / "raw")


def state_of(*written: Entry) -> PolicyState:
    numbered = [msgspec.structs.replace(each, position=n) for n, each in enumerate(written, 1)]
    return fold(numbered, {})["cartpole"]


@each_release
def test_an_old_spool_is_shipped_on_from_where_it_was(release: str, tmp_path: Path) -> None:
    spool = Path(copytree(WRITTEN / release / "spool" / PRODUCER, tmp_path / PRODUCER))
    found = SegmentReader(spool, read_shipped(spool)).read(10**6)
    assert [sequence for sequence, _ in found] == [42, 43]
    assert [decode_record(content) for _, content in found] == records()[1:]


@each_release
def test_old_entries_of_a_stream_are_sealed(
    redis_client: "redis.Redis", release: str, tmp_path: Path
) -> None:
    fields = msgspec.msgpack.decode((WRITTEN / release / "stream.msgpack").read_bytes())
    sealed = seal(redis_client, tmp_path, fields)
    assert [entry.sequence for entry in sealed] == [41, 42, 43]
    assert [decode_record(entry.content) for entry in sealed] == records()


@each_release
def test_an_old_ledger_is_followed_and_goes_on(release: str, tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes((WRITTEN / release / LEDGER_FILE).read_bytes())
    ledger = FileLedger(tmp_path / LEDGER_FILE)
    found = ledger.read_after(0)
    assert [msgspec.structs.replace(entry, position=0) for entry in found] == entries()
    state = fold(found, {})["cartpole"]
    assert (state.stable, state.canary, state.not_understood) == (1, None, None)
    assert state.rollout is not None
    assert (state.rollout.outcome, state.rollout.plan.mode) == ("rolled_back", "auto")
    pin = Entry(action="pin", policy="cartpole", who="ada", why="a test")
    assert ledger.append(pin, after=3).position == 4


@each_release
def test_an_old_bundle_is_read_with_its_hashes(release: str) -> None:
    found = read_bundle(WRITTEN / release / "policies" / "cartpole" / "1").manifest
    assert (found.policy, found.version, found.floor) == ("cartpole", 1, 9.5)
    assert found.profile is not None
    assert found.profile.episode_return == builders.profile().episode_return


@each_release
def test_old_shards_are_gone_on_with_and_what_they_hold_is_not_sealed_again(
    release: str, tmp_path: Path
) -> None:
    shards = Path(copytree(WRITTEN / release / "shards", tmp_path / "shards"))
    path = shard_path(shards / "cartpole" / "raw", 1)
    assert [decode_record(entry.content) for entry in read_entries(path)] == records()
    log = ShardLog(shards, "cartpole")
    content = encode_record(records()[1])
    offered = [
        Sealable(ShardEntry(PRODUCER, 5, number, content), 1000.0, "schema") for number in (43, 44)
    ]
    manifest = log.append(offered, SEALED_AT + 1, "me")
    assert manifest is not None
    assert (manifest.number, manifest.records) == (2, 1)
    assert manifest.positions == {f"{PRODUCER}/5": Position(44, SEALED_AT + 1)}


@each_release
def test_what_an_old_replica_says_of_itself_is_understood(release: str) -> None:
    (found,) = fresh([(WRITTEN / release / "replica.json").read_bytes()], now=1001.0)
    assert found == Replica(
        name="box/worker", at=1000.5, position=3, warm={"cartpole": [1, 2]},
        faults={"cartpole/3": "altered"}, is_cut_off=True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", FIELDS)
def test_new_fields_of_a_record_come_last_and_may_be_absent(kind: Any) -> None:
    known = FIELDS[kind]
    assert kind.__struct_fields__[: len(known)] == known
    added = kind.__struct_fields__[len(known) :]
    assert len(kind.__struct_defaults__) >= len(added)


@pytest.mark.parametrize("record", records())
def test_a_record_with_later_fields_is_read_and_sealed_whole(
    redis_client: "redis.Redis", record: Any, tmp_path: Path
) -> None:
    raw = msgspec.msgpack.decode(encode_record(record))
    later = msgspec.msgpack.encode([*raw, "said later", {"and": "more"}])
    assert decode_record(later) == record
    told = [{"producer": "p", "sequence": "1", "record": later, "a later field": "x"}]
    (sealed,) = seal(redis_client, tmp_path, told)
    assert sealed.content == later


def test_columns_and_who_answered_may_say_more() -> None:
    record = records()[0]
    raw = msgspec.msgpack.decode(encode_record(record))
    place = {name: number for number, name in enumerate(FIELDS[DecisionBatch], 1)}
    raw[place["observations"]].append("layout")
    raw[place["answered_by"]] = [[*each, 0.5] for each in raw[place["answered_by"]]]
    assert decode_record(msgspec.msgpack.encode(raw)) == record


def test_a_kind_of_record_that_is_not_known_yet_is_kept_as_it_is() -> None:
    later = msgspec.msgpack.encode(["z", "cartpole", 1000.0])
    policy, sealable = read_sealable(ShardEntry("p", 5, 1, later))
    assert policy == DEAD_LETTERS
    assert sealable.entry.content == later


def test_a_plan_with_later_fields_is_followed() -> None:
    first, canary, _ = entries()
    plan = canary.details["plan"] | {"patience": 3}
    plan["stages"] = [stage | {"weight": 2} for stage in plan["stages"]]
    later = msgspec.structs.replace(canary, details=canary.details | {"plan": plan, "seed": 1})
    state = state_of(first, later)
    assert state.canary == 2
    assert state.open_rollout is not None
    assert state.open_rollout.share == 0.1
    assert state.not_understood is None


@pytest.mark.parametrize("plan", [{"mode": "bandit"}, {"stages": [{"share": "most"}]}, None, 7])
def test_an_entry_that_is_not_understood_stops_nobody_from_following(plan: Any) -> None:
    first, canary, _ = entries()
    later = msgspec.structs.replace(canary, details={"rollout_id": "r", "plan": plan})
    pin = Entry(action="pin", policy="cartpole", who="ada", why="x", at=canary.at)
    unknown = msgspec.structs.replace(pin, action="hibernate")
    state = state_of(first, later, unknown, pin)
    assert (state.stable, state.canary, state.is_pinned) == (1, None, True)
    assert state.not_understood == 2


def test_an_entry_of_the_ledger_grows_in_its_details_alone() -> None:
    # A replica's copy of the shared ledger is compared with the others': what it dropped would
    # make its past another one. Details are kept whole by every release.
    assert Entry.__struct_fields__ == (
        "action", "policy", "who", "why", "version", "at", "position", "key", "details",
    )  # fmt: skip
    details = {"of a later release": {"shares": [0.1, 1e-300], "note": None}}
    entry = Entry(action="x", policy="p", who="w", why="y", details=details)
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry


def test_facts_that_a_later_manifest_adds_are_passed_over() -> None:
    written = builders.manifest(profile=builders.profile())
    document = msgspec.json.decode(encode_manifest(written))
    document["energy_joules"] = 7
    document["lineage"]["cluster"] = "north"
    document["profile"]["episode_return"]["skewness"] = 0.5
    assert decode_manifest(msgspec.json.encode(document)) == written


@pytest.mark.parametrize("part", ["observation", "actions", "reward_transform"])
def test_what_changes_the_meaning_of_a_bundle_is_refused(part: str) -> None:
    document = msgspec.json.decode(encode_manifest(builders.manifest()))
    document[part]["centred"] = True
    with pytest.raises(ManifestError, match=f"{part}.centred: Extra inputs"):
        decode_manifest(msgspec.json.encode(document))


def test_a_shard_that_says_more_is_read_and_one_of_another_format_is_refused(
    tmp_path: Path,
) -> None:
    shards = Path(copytree(WRITTEN / RELEASES[-1] / "shards", tmp_path / "shards"))
    path = shard_path(shards / "cartpole" / "raw", 1)
    line, _, body = path.read_bytes().partition(b"\n")
    said = msgspec.json.decode(line)
    said["codec"] = "zstd"
    said["ranges"][0]["note"] = "x"
    path.write_bytes(msgspec.json.encode(said) + b"\n" + body)
    assert read_manifest(path).records == 3
    assert [decode_record(entry.content) for entry in read_entries(path)] == records()
    path.write_bytes(msgspec.json.encode(said | {"format_version": 2}) + b"\n" + body)
    with pytest.raises(ShardError, match="expected format 1, found 2"):
        read_manifest(path)


def test_a_replica_that_says_more_is_heard() -> None:
    told = {"name": "r", "at": 5.0, "position": 1, "warm": {}, "load": 0.5}
    assert [each.name for each in fresh([msgspec.json.encode(told)], now=6.0)] == ["r"]


def test_a_cycle_that_a_later_release_began_is_gone_on_with(tmp_path: Path) -> None:
    state = CycleState(cycle_id="c", policy="cartpole", started_at=5.0, seed=1, stage="judge")
    write_state(tmp_path, state)
    path = tmp_path / "c" / STATE_FILE
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"later": 1}))
    assert read_states(tmp_path) == [state]
