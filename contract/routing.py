"""Which streams a record goes through, and in what parts."""

from collections.abc import Iterator

import msgspec

from contract.records import DecisionBatch, Outcome, Record, decode_record, encode_record, take_rows
from contract.streams import partition_of


def route(record: Record) -> Iterator[tuple[str, int, bytes]]:
    """(policy, partition, encoded record) of each part: the records of an episode share a stream.

    A record without a policy goes to the streams of none, where the recorder looks as well.
    """
    if not isinstance(record, DecisionBatch):
        name = record.episode_id or (
            f"{record.decision_id}/{record.row}"
            if isinstance(record, Outcome)
            else record.transition_id
        )
        yield record.policy or "", partition_of(name), encode_record(record)
        return
    rows_of: dict[int, list[int]] = {}
    requests = [
        (name, row)
        for name, count in zip(record.decision_ids, record.row_counts, strict=True)
        for row in range(count)
    ]
    for index, (name, row) in enumerate(requests):
        partition = partition_of(record.episode_ids[index] or f"{name}/{row}")
        rows_of.setdefault(partition, []).append(index)
    for partition, rows in rows_of.items():
        part = record if len(rows_of) == 1 else take_rows(record, rows)
        yield record.policy, partition, encode_record(part)


def route_content(producer: str, content: bytes) -> Iterator[tuple[str, int, bytes]]:
    """As `route`, of an encoded record; what does not decode goes on as it is.

    The recorder keeps it where somebody can look at it.
    """
    try:
        record = decode_record(content)
    except msgspec.DecodeError:
        yield "", partition_of(producer), content
        return
    yield from route(record)
