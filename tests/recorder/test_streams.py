from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.records import Record, encode_record
from contract.streams import NUM_PARTITIONS, POLICIES_KEY, lease_key, records_key
from recorder.seal import Sealer, read_sealable
from recorder.shards import DEAD_LETTERS, UNNAMED, raw_folder, shard_numbers
from recorder.sources import MALFORMED, Source, Streams
from tests.builders import outcome
from tests.recorder.records import sealed_entries, sealed_rewards

NOW = 5000.0


def ship(
    redis_client: "redis.Redis",
    *rewards: float,
    partition: int = 3,
    policy: str = "cartpole",
    producer: str = "worker",
) -> None:
    """Outcomes whose sequence numbers are their rewards."""
    redis_client.sadd(POLICIES_KEY, policy)
    for reward in rewards:
        record: Record = outcome(reward, policy=policy or None, decision_id="d")
        fields: Any = {
            "producer": producer, "sequence": int(reward), "record": encode_record(record),
        }  # fmt: skip
        redis_client.xadd(records_key(policy, partition), fields)


def streams(
    redis_client: "redis.Redis", holder: str = "me", lease_seconds: float = 30.0
) -> Streams:
    port = redis_client.connection_pool.connection_kwargs["port"]
    return Streams(f"redis://127.0.0.1:{port}", holder, lease_seconds)


def sealer(shards: Path, sources: Streams, name: str = "me") -> Sealer:
    return Sealer(shards, sources, 10**7, name)


def rewards(shards: Path, policy: str = "cartpole") -> list[float]:
    return sealed_rewards(raw_folder(shards, policy))


def trim(sources: Iterable[Source]) -> None:
    for source in sources:
        source.trim()


def test_streams_are_sealed_by_policy_in_one_shard_and_trimmed(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    for partition in range(NUM_PARTITIONS):
        ship(redis_client, partition + 1.0, partition=partition)
    ship(redis_client, 100.0, policy="pong")
    ship(redis_client, 200.0, policy="")
    sources = streams(redis_client)
    sealer(tmp_path, sources).seal(NOW)
    assert sorted(rewards(tmp_path)) == [float(each) for each in range(1, 17)]
    assert shard_numbers(raw_folder(tmp_path, "cartpole")) == [1]
    assert rewards(tmp_path, "pong") == [100.0]
    assert rewards(tmp_path, UNNAMED) == [200.0]
    assert sources.num_pending() == 0
    assert redis_client.xlen(records_key("cartpole", 0)) == 0
    sources.close()


def test_what_comes_after_a_pass_and_what_comes_twice_is_sealed_once(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    sources = streams(redis_client)
    sealing = sealer(tmp_path, sources)
    # As a shipper writes that lost an answer; the second time over a pass between.
    for sent in ((1, 2, 1, 2, 3), (2, 3, 4), (4, 5)):
        ship(redis_client, *map(float, sent))
        sealing.seal(NOW)
    assert rewards(tmp_path) == [1.0, 2.0, 3.0, 4.0, 5.0]
    sources.close()


def test_a_lease_keeps_the_second_recorder_off_until_it_is_given_back_or_runs_out(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    first, second = streams(redis_client, "first"), streams(redis_client, "second")
    ship(redis_client, 1.0)
    assert sealer(tmp_path, first).seal(NOW).records == 1
    ship(redis_client, 2.0)
    assert sealer(tmp_path, second).seal(NOW).records == 0
    first.close()
    assert sealer(tmp_path, second).seal(NOW).records == 1
    ship(redis_client, 3.0)
    for partition in range(NUM_PARTITIONS):
        redis_client.delete(lease_key("cartpole", partition))
    third = streams(redis_client, "third")
    assert sealer(tmp_path, third).seal(NOW).records == 1
    second.close()
    assert rewards(tmp_path) == [1.0, 2.0, 3.0]


def test_a_stale_holder_that_wakes_up_neither_trims_nor_doubles(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    stale, heir = streams(redis_client, "stale"), streams(redis_client, "heir")
    asleep = sealer(tmp_path, stale, "stale")
    asleep.seal(NOW)
    ship(redis_client, 1.0, 2.0)
    # It reads, and falls asleep before it seals.
    read = [(source, source.read(10**6)) for source in stale.find()]
    redis_client.delete(*(lease_key("cartpole", partition) for partition in range(NUM_PARTITIONS)))
    inheriting = sealer(tmp_path, heir, "heir")
    inheriting.seal(NOW)
    ship(redis_client, 3.0)
    sealables = [read_sealable(entry)[1] for _, entries in read for entry in entries]
    assert len(sealables) == 2
    assert asleep._log_of("cartpole").append(sealables, NOW, "stale") is None
    for source, _ in read:
        source.trim()
    assert redis_client.xlen(records_key("cartpole", 3)) == 1
    inheriting.seal(NOW)
    assert rewards(tmp_path) == [1.0, 2.0, 3.0]
    heir.close()
    stale.close()


def test_nothing_is_trimmed_over_another_connection_than_it_was_read_by(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    ship(redis_client, 1.0)
    sources = streams(redis_client)
    read = [(source, source.read(10**6)) for source in sources.find()]
    # As if by a restart: what is there now may be something else under the same ids.
    redis_client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(redis.ConnectionError):
        trim(source for source, _ in read)
    assert redis_client.xlen(records_key("cartpole", 3)) == 1
    sealer(tmp_path, sources).seal(NOW)
    assert rewards(tmp_path) == [1.0]
    sources.close()


def test_a_stale_holder_cannot_trim_what_came_since(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    stale = streams(redis_client, "stale")
    ship(redis_client, 1.0)
    read = [(source, source.read(10**6)) for source in stale.find()]
    redis_client.set(lease_key("cartpole", 3), "heir:7")
    for source, _ in read:
        source.trim()
    assert redis_client.xlen(records_key("cartpole", 3)) == 1
    stale.close()
    assert redis_client.get(lease_key("cartpole", 3)) == b"heir:7"


def test_what_is_not_ours_in_a_stream_is_kept_apart_and_trimmed(
    tmp_path: Path, redis_client: "redis.Redis"
) -> None:
    ship(redis_client, 1.0)
    redis_client.xadd(records_key("cartpole", 3), {"note": "by hand"})
    redis_client.xadd(
        records_key("cartpole", 3), {"producer": "worker", "sequence": "2", "record": b"\xc1"}
    )
    ship(redis_client, 3.0)
    sources = streams(redis_client)
    sealer(tmp_path, sources).seal(NOW)
    assert rewards(tmp_path) == [1.0, 3.0]
    letters = sealed_entries(raw_folder(tmp_path, DEAD_LETTERS))
    assert [letter.producer for letter in letters] == [MALFORMED, "worker"]
    assert b"by hand" in letters[0].content
    assert sources.num_pending() == 0
    sources.close()
