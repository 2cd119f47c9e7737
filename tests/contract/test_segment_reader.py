from pathlib import Path

from contract.segment_reader import SegmentReader, remove_segments
from contract.segments import SegmentWriter, segment_paths


def write(folder: Path, *groups: list[int], first: int = 0, max_bytes: int = 1) -> SegmentWriter:
    """Groups of records that say their number; without room for two groups in a segment."""
    writer = SegmentWriter(folder, first, max_bytes)
    for group in groups:
        writer.append([str(number).encode() for number in group])
    writer.sync()
    return writer


def numbers(taken: list[tuple[int, bytes]]) -> list[int]:
    assert all(int(record) == sequence for sequence, record in taken)
    return [sequence for sequence, _ in taken]


def test_reading_goes_on_where_it_was_over_segments_and_within_one(tmp_path: Path) -> None:
    reader = SegmentReader(tmp_path)
    writer = write(tmp_path, [0, 1], [2])
    assert numbers(reader.read(10**6)) == [0, 1, 2]
    assert numbers(reader.read(10**6)) == []
    writer._max_bytes = 10**6
    for number in (3, 4):
        writer.append([str(number).encode()])
        assert numbers(reader.read(10**6)) == [number]
    writer.close()


def test_reading_starts_behind_a_number_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    write(tmp_path, [0, 1], [2, 3, 4], [5]).close()
    assert numbers(SegmentReader(tmp_path, after=2).read(10**6)) == [3, 4, 5]


def test_reading_stops_once_it_has_enough_and_before_what_may_not_be_durable(
    tmp_path: Path,
) -> None:
    write(tmp_path, [0, 1], [2, 3], [4, 5], max_bytes=10**6).close()
    reader = SegmentReader(tmp_path)
    assert numbers(reader.read(1)) == [0, 1]
    assert numbers(reader.read(10**6, up_to=4)) == [2, 3]
    assert numbers(reader.read(10**6, up_to=5)) == [4, 5]


def test_rewinding_reads_again(tmp_path: Path) -> None:
    write(tmp_path, [0, 1], [2, 3], [4, 5]).close()
    reader = SegmentReader(tmp_path)
    reader.read(10**6)
    reader.rewind(1)
    assert (reader.position, numbers(reader.read(10**6))) == (1, [2, 3, 4, 5])


def test_a_gap_in_the_numbers_is_read_over(tmp_path: Path) -> None:
    write(tmp_path, [0, 1]).close()
    write(tmp_path, [7, 8], first=7).close()
    reader = SegmentReader(tmp_path)
    assert [numbers(reader.read_durable(1)) for _ in range(3)] == [[0, 1], [7, 8], []]


def test_only_segments_that_hold_nothing_more_are_removed_and_never_the_newest(
    tmp_path: Path,
) -> None:
    write(tmp_path, [0, 1], [2, 3], [4]).close()
    kept = []
    for position in (0, 1, 2, 4):
        remove_segments(tmp_path, position)
        kept.append([int(path.stem) for path in segment_paths(tmp_path)])
    assert kept == [[0, 2, 4], [2, 4], [2, 4], [4]]
