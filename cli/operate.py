"""The operator's verbs: each is one call to the server, told in a sentence or as JSON."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from rich.console import Console
from rich.table import Table

from dqn_client import Client, ClientError

DEFAULT_SERVER = "http://127.0.0.1:8000"
_TIMEOUT_SECONDS = 120.0
"""A version is loaded, proven and warmed on every replica before a call returns."""


def policies(arguments: Sequence[str]) -> int:
    """Show what is served."""
    options = server_parser("policies", "What is served, and by whom.").parse_args(arguments)
    return with_client(options, lambda client: _show_policies(client, as_json=options.json))


def promote(arguments: Sequence[str]) -> int:
    """Make a version stable."""
    parser = change_parser("promote", "Make a version stable, once it has proven that it loads.")
    parser.add_argument("version", type=int)
    parser.add_argument("--first", action="store_true", help="it is the policy's first version")
    return change("promote", parser.parse_args(arguments), "version", "first")


def rollback(arguments: Sequence[str]) -> int:
    """Go back to an earlier version."""
    parser = change_parser("rollback", "Make the previous version stable again.")
    parser.add_argument("--to", type=int, help="the version to go back to, if not the previous")
    parser.add_argument(
        "--all-replicas",
        nargs="+",
        metavar="URL",
        help="tell each of these servers itself: one may be cut off from the others",
    )
    options = parser.parse_args(arguments)
    statuses = []
    for server in options.all_replicas or [options.server]:
        options.server = server
        # One key for all of them: those that share a ledger note it once.
        statuses.append(change("rollback", options, "to"))
    return max(statuses)


def pin(arguments: Sequence[str]) -> int:
    """Let the heuristic answer everything."""
    parser = change_parser("pin", "Let the heuristic answer everything.")
    return change("pin", parser.parse_args(arguments))


def unpin(arguments: Sequence[str]) -> int:
    """Let the model answer again."""
    parser = change_parser("unpin", "Let the model answer again.")
    return change("unpin", parser.parse_args(arguments))


def freeze(arguments: Sequence[str]) -> int:
    """Stop promotions."""
    parser = change_parser("freeze", "Stop promotions; never a rollback.")
    return change("freeze", parser.parse_args(arguments))


def unfreeze(arguments: Sequence[str]) -> int:
    """Allow promotions again."""
    parser = change_parser("unfreeze", "Allow promotions again.")
    return change("unfreeze", parser.parse_args(arguments))


def server_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """The flags of every verb that asks a server."""
    parser = argparse.ArgumentParser(prog=f"dqn {verb}", description=description)
    parser.add_argument("--server", default=os.environ.get("DQN_SERVER", DEFAULT_SERVER))
    parser.add_argument(
        "--key-file", type=Path, default=os.environ.get("DQN_KEY_FILE"), help="file with the key"
    )
    parser.add_argument("--json", action="store_true", help="print the server's answer as it is")
    return parser


def change_parser(
    verb: str, description: str, *, needs_why: bool = True
) -> argparse.ArgumentParser:
    """The flags of every change."""
    parser = server_parser(verb, description)
    parser.add_argument("policy")
    parser.add_argument("--why", required=needs_why, help="kept in the ledger")
    parser.add_argument("--expected-stable", type=int, help="refuse unless this one is stable")
    return parser


def change(action: str, options: argparse.Namespace, *fields: str, **more: Any) -> int:
    """Make one change and tell what came of it; the exit status."""
    body = more | {
        name: getattr(options, name)
        for name in ("why", "expected_stable", *fields)
        if getattr(options, name) is not None
    }
    # A call that is sent again, by a client that heard no answer, must not act twice.
    options.key = getattr(options, "key", None) or uuid4().hex
    body["key"] = options.key

    def call(client: Client) -> None:
        answer = client.change(options.policy, action, body)
        if options.json:
            print(msgspec.json.encode(answer).decode())
            return
        served = answer["policy"]
        by = f"version {served['stable']}" if served["source"] == "model" else "the heuristic"
        print(f"{action}: ledger entry {answer['entry']['position']}; {by} answers")
        if served["fault"]:
            print(f"but {served['fault']}")
        if answer["replicas"]["not_acknowledged"]:
            print(f"not heard of from {', '.join(answer['replicas']['not_acknowledged'])}")

    return with_client(options, call)


def _show_policies(client: Client, *, as_json: bool) -> None:
    answer = client.get("/v1/policies")
    if as_json:
        print(msgspec.json.encode(answer).decode())
        return
    table = Table("policy", "stable", "answered by", "heuristic", "what is wrong")
    for served in answer["policies"]:
        table.add_row(
            served["policy"],
            str(served["stable"] or "-"),
            served["source"],
            served["heuristic"],
            served["fault"] or ("pinned by an operator" if served["pinned"] else ""),
        )
    Console().print(table)


def with_client(options: argparse.Namespace, call: Callable[[Client], None]) -> int:
    """Call with a client of the server that the flags name; the exit status."""
    try:
        key = options.key_file and Path(options.key_file).read_text(encoding="utf-8").strip()
        with Client(options.server, key, timeout_seconds=_TIMEOUT_SECONDS) as client:
            call(client)
    except (ClientError, OSError) as error:
        print(f"dqn: {error}", file=sys.stderr)
        return 1
    return 0
