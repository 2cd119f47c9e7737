"""`dqn ledger`: what happened, a backup, and a backup put back."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from contract.files import make_directory, replace_file
from contract.ledger import LEDGER_FILE, Entry, FileLedger, LedgerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Back up or restore the ledger of a repository; the exit status."""
    parser = argparse.ArgumentParser(prog="dqn ledger", description="Back up, restore, read.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, told in (
        ("backup", "copy the ledger, each entry read, to a file"),
        ("restore", "put a backup in the ledger's place; services and recorder stopped"),
        ("show", "who did what, when and why"),
    ):
        each = verbs.add_parser(verb, help=told, description=told)
        each.add_argument("--repository", type=Path, default=Path("data/policies"))
        if verb == "show":
            each.add_argument("--json", action="store_true", help="a line of JSON an entry")
        else:
            each.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    ledger = options.repository / LEDGER_FILE
    try:
        match options.verb:
            case "backup":
                print(f"{_copy(ledger, options.file)} entries in {options.file}")
            case "restore":
                _refuse_loss(options.file, ledger)
                print(f"{_copy(options.file, ledger)} entries in {ledger}")
            case _:
                for entry in FileLedger(ledger).read_after(0):
                    print(msgspec.json.encode(entry).decode() if options.json else _line(entry))
    except (LedgerError, OSError) as error:
        print(f"dqn ledger: {error}", file=sys.stderr)
        return 1
    return 0


def _copy(source: Path, target: Path) -> int:
    """Copy what reads as a ledger; the number of its entries."""
    if not source.exists():
        raise LedgerError(f"{source}: is not there")
    entries = FileLedger(source).read_after(0)
    make_directory(target.parent)
    replace_file(target, b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    return len(entries)


def _refuse_loss(backup: Path, ledger: Path) -> None:
    """What the ledger knows beyond a backup would be undone unseen: move it away by hand first."""
    try:
        known = FileLedger(ledger).read_after(0)
    except LedgerError:
        # It is damaged: what a backup is for.
        return
    saved = FileLedger(backup).read_after(0)
    if known != saved[: len(known)]:
        raise LedgerError(
            f"{ledger}: holds {len(known)} entries, not all of them in the backup's {len(saved)}; "
            "move it away to lose them"
        )


def _line(entry: Entry) -> str:
    version = "" if entry.version is None else f" {entry.version}"
    return f"{entry.at}  {entry.policy}  {entry.action}{version}  by {entry.who}: {entry.why}"
