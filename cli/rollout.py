"""The verbs of a rollout: push, canary (its prospects, its start, its live view), shadow, abort."""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.operate import change, change_parser, with_client
from contract.bundle import BundleError, read_bundle
from contract.files import make_directory, sync_directory
from contract.plan import PlanError, decode_plan
from dqn_client import Client

_REFRESH_SECONDS: Final = 1.0


def push(arguments: Sequence[str]) -> int:
    """Have a version loaded, proven and warm on every replica; it takes no traffic."""
    parser = change_parser("push", "Have a version loaded, proven and warm on every replica.")
    parser.add_argument("version", type=int)
    parser.add_argument("--bundle", type=Path, help="folder to copy into the repository first")
    parser.add_argument("--repository", type=Path, default=Path("data/policies"))
    options = parser.parse_args(arguments)
    if options.bundle is not None:
        try:
            _copy(options.bundle, options.repository / options.policy, options.version)
        except (BundleError, OSError) as error:
            print(f"dqn: {error}", file=sys.stderr)
            return 1
    return change("versions", options, "version")


def canary(arguments: Sequence[str]) -> int:
    """Start a trial, say what it will take, or watch the one that runs."""
    parser = change_parser(
        "canary",
        "Put a version on trial; without a version, watch the trial that runs.",
        needs_why=False,
    )
    parser.add_argument("version", type=int, nargs="?")
    parser.add_argument("--plan", action="store_true", help="say what it will take; start nothing")
    parser.add_argument("--stages", type=Path, help="the plan to go by, TOML or JSON")
    parser.add_argument(
        "--episodes-per-hour", type=float, help="the traffic that --plan reckons with"
    )
    parser.add_argument("--watch", action="store_true", help="watch it once it has started")
    # A version that may be left out is otherwise looked for before the first flag only.
    options = parser.parse_intermixed_args(arguments)
    if options.version is None:
        return with_client(options, lambda client: _watch(client, options))
    try:
        body = {} if options.stages is None else {"plan": _read_plan(options.stages)}
    except (PlanError, OSError) as error:
        print(f"dqn: {options.stages}: {error}", file=sys.stderr)
        return 1
    if options.plan:
        return with_client(options, lambda client: _show_prospect(client, options, body))
    if options.why is None:
        parser.error("--why is needed to start a trial")
    status = change("canary", options, "version", **body)
    if status == 0 and options.watch:
        return with_client(options, lambda client: _watch(client, options))
    return status


def shadow(arguments: Sequence[str]) -> int:
    """Let a version see a share of the rows and answer none."""
    parser = change_parser("shadow", "Let a version see traffic and answer none of it.")
    parser.add_argument("version", type=int)
    parser.add_argument("--share", type=float, default=0.1, help="of the rows; 0 ends it")
    return change("shadow", parser.parse_args(arguments), "version", "share")


def abort(arguments: Sequence[str]) -> int:
    """End the trial and the shadow."""
    parser = change_parser("abort", "End the trial and the shadow; its episodes finish on stable.")
    return change("abort", parser.parse_args(arguments))


def pause(arguments: Sequence[str]) -> int:
    """Hold the trial at its share."""
    parser = change_parser("pause", "Hold the share: nothing ramps; the judge may roll back.")
    return change("pause", parser.parse_args(arguments))


def resume(arguments: Sequence[str]) -> int:
    """Let the trial go on."""
    return change("resume", change_parser("resume", "Let the trial go on.").parse_args(arguments))


def _read_plan(path: Path) -> dict[str, Any]:
    plan = decode_plan(path.read_bytes(), is_toml=path.suffix == ".toml")
    return plan.model_dump(mode="json")


def _copy(bundle: Path, policy: Path, version: int) -> None:
    """Copy a bundle, whole or not at all; one that is there already is left as it is."""
    found = read_bundle(bundle).manifest
    if (found.policy, found.version) != (policy.name, version):
        raise BundleError(f"{bundle}: is {found.policy} {found.version}")
    target = policy / str(version)
    if target.exists():
        raise FileExistsError(f"{target}: versions are never written twice")
    make_directory(policy)
    temporary = policy / f".{version}.{uuid4().hex}.tmp"
    try:
        shutil.copytree(bundle, temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_directory(policy)


def _show_prospect(client: Client, options: argparse.Namespace, body: dict[str, Any]) -> None:
    asked = body | {"why": "a dry run", "version": options.version, "dry_run": True}
    if options.episodes_per_hour is not None:
        asked["episodes_per_hour"] = options.episodes_per_hour
    told = client.change(options.policy, "canary", asked)
    if options.json:
        print(msgspec.json.encode(told).decode())
        return
    for sentence in told["sentences"]:
        print(sentence)


def _watch(client: Client, options: argparse.Namespace) -> None:
    path = f"/v1/policies/{options.policy}/rollout/verdict"
    if options.json:
        print(msgspec.json.encode(client.get(path)).decode())
        return
    console = Console()
    told = client.get(path)
    if not console.is_terminal or told["outcome"] != "open":
        console.print(view(told))
        return
    with Live(view(told), console=console, auto_refresh=False) as live:
        while told["outcome"] == "open":
            time.sleep(_REFRESH_SECONDS)
            told = client.get(path)
            live.update(view(told), refresh=True)


def view(told: dict[str, Any]) -> Group:
    """A trial as a terminal shows it."""
    if told["outcome"] is None:
        return Group(Text(told["sentence"]))
    stages = "  ".join(
        f"[{share:g}]" if place == told["stage"] else f"{share:g}"
        for place, share in enumerate(told["stages"])
    )
    table = Table.grid(padding=(0, 2))
    table.add_row("version", f"{told['version']} against {told['against']}, {told['kind']}")
    table.add_row("stages", Text(f"{stages}   ({told['mode']})"))
    table.add_row(
        "blocks",
        f"{told['blocks_at_stage']} of {told['minimum_blocks']} here, {told['blocks']} in all",
    )
    means = told["mean_return"]
    table.add_row(
        "mean return", f"canary {_number(means['canary'])}, stable {_number(means['stable'])}"
    )
    for test in ("rollback", "promotion"):
        needed = told["needed"][test]
        found = told["evidence"][test]
        bar = ProgressBar(total=needed, completed=min(found, needed), width=30)
        table.add_row(f"evidence for {test}", bar, f"{found:.3g}x of {needed:g}x")
    verdict = told["verdict"] if told["outcome"] == "open" else told["outcome"]
    return Group(table, Text(f"{verdict}: {told['sentence']}"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
