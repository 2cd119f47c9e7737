"""`dqn spool …`: empty a spool that nobody owns, put one away, look at what could not be read."""

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from contract.records import decode_record
from contract.segment_reader import SHIPPED_FILE, read_shipped
from recorder.archive import put_away, shipped_parts, take_back
from recorder.seal import POLICY_NAME, Sealer
from recorder.settings import RecorderSettings, SettingsError
from recorder.shards import (
    DEAD_LETTERS,
    ShardError,
    raw_folder,
    read_entries,
    shard_numbers,
    shard_path,
)
from recorder.sources import OneSpool
from recorder.waiting import WaitingError, check_streams

_OWNER_LOCK = "owner.lock"
_SHARD_BYTES = 64 * 1024**2
_SHOWN_BYTES = 60


def main(arguments: Sequence[str]) -> int:
    """Run one verb; the exit status."""
    try:
        settings = RecorderSettings.load()
        options = _parser(settings).parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except (ShardError, SettingsError, WaitingError, OSError) as error:
        print(f"dqn spool: {error}", file=sys.stderr)
        return 1


def _drain(options: argparse.Namespace) -> int:
    folder = Path(options.source)
    if not folder.is_dir() or not any(folder.glob("*.seg")):
        _check_streams(options, shipped_parts(options.source))
        num_records = take_back(options.source, options.shards, time.time())
        print(f"{num_records} records of {options.source} are sealed in {options.shards}")
        return 0
    with _owned(folder):
        if (folder / SHIPPED_FILE).exists():
            _check_streams(options, {folder.name: read_shipped(folder)})
        sealer = Sealer(options.shards, OneSpool(folder), _SHARD_BYTES, "dqn spool drain")
        num_records = 0
        while (done := sealer.seal(time.time())).records:
            num_records += done.records
        # Nobody counts on from here: the next worker makes a folder of its own.
        shutil.rmtree(folder)
    print(f"{num_records} records of {folder.name} are sealed in {options.shards}; it is gone")
    return 0


def _check_streams(options: argparse.Namespace, last: Mapping[str, int]) -> None:
    """Refuse what Redis holds records of that no shard has, unless told that it is gone."""
    if not last or options.redis_is_gone:
        return
    if options.redis_url is None:
        raise WaitingError(
            f"{options.source} was emptied in part; a Redis that it went to may hold records "
            "that no shard has: set DQN_RECORD_REDIS_URL, or say --redis-is-gone"
        )
    check_streams(options.redis_url, last)


def _seal(options: argparse.Namespace) -> int:
    with _owned(options.folder):
        num_records = put_away(options.folder, options.to, time.time())
    print(f"{num_records} records of {options.folder.name} are in {options.to}")
    print(f"take them back with: dqn spool drain {options.to}")
    return 0


def _dead_letters(options: argparse.Namespace) -> int:
    folder = raw_folder(options.shards, DEAD_LETTERS)
    num_letters = 0
    for number in shard_numbers(folder):
        for entry in read_entries(shard_path(folder, number)):
            num_letters += 1
            print(
                f"shard {number}  {entry.producer}  {entry.sequence}  "
                f"{len(entry.content)} bytes  {_why(entry.content)}  "
                f"{entry.content[:_SHOWN_BYTES]!r}"
            )
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / f"{entry.producer}-{entry.sequence}").write_bytes(entry.content)
    print(f"{num_letters} dead letters")
    return 0


def _why(content: bytes) -> str:
    try:
        policy = decode_record(content).policy
    except msgspec.DecodeError as error:
        return str(error)
    if policy is not None and POLICY_NAME.fullmatch(policy) is None:
        return f"no policy can be called {policy!r}"
    return "this release can read it"


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold a producer's folder as its worker would.

    Raises:
        OSError: It is not there, or a running worker holds it.
    """
    descriptor = os.open(folder / _OWNER_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OSError(f"{folder} belongs to a running worker: stop the service first") from None
    finally:
        os.close(descriptor)


def _parser(settings: RecorderSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dqn spool", description=__doc__)
    parser.add_argument(
        "--shards", type=Path, default=settings.shards_folder, help="folder of the sealed log"
    )
    verbs = parser.add_subparsers(required=True, metavar="verb")
    drain = verbs.add_parser("drain", help="seal what a dead replica, or an archive, holds")
    drain.add_argument("source", help="a producer's folder, or where `seal` has put one")
    drain.add_argument(
        "--redis-is-gone",
        action="store_true",
        help="do not look whether Redis holds records that were shipped and not sealed",
    )
    drain.set_defaults(run=_drain, redis_url=settings.read_redis_url())
    seal = verbs.add_parser("seal", help="put a spool away while the way to the log is cut off")
    seal.add_argument("folder", type=Path, help="a producer's folder, its service stopped")
    seal.add_argument("--to", required=True, help="folder or URL, such as s3://bucket/archive")
    seal.set_defaults(run=_seal)
    letters = verbs.add_parser("dead-letters", help="what was logged and cannot be read")
    letters.add_argument("--out", type=Path, help="folder that receives each as a file")
    letters.set_defaults(run=_dead_letters)
    return parser
