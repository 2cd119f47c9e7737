"""`dqn keys add`: make a key, store its hash, show it once."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from service.keys import SCOPES, KeysError, add_key


def main(arguments: Sequence[str]) -> int:
    """Run the verb; the exit status."""
    parser = argparse.ArgumentParser(prog="dqn keys", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    add = verbs.add_parser("add", help="make a key; it is printed once and stored hashed")
    add.add_argument("name", help="whose key it is: one word, shown in the ledger")
    add.add_argument("scopes", nargs="+", choices=SCOPES)
    add.add_argument("--file", type=Path, required=True, help="the server's keys_file")
    options = parser.parse_args(arguments)
    try:
        print(add_key(options.file, options.name, options.scopes))
    except (KeysError, OSError) as error:
        print(f"dqn keys: {error}", file=sys.stderr)
        return 2
    return 0
