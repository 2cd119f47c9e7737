"""`dqn dataset …`: build, look at, break down, export, audit and quarantine what was logged."""

import argparse
import getpass
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from recorder.audit import audit_shards
from recorder.dataset.breakdown import COLUMNS, break_down
from recorder.dataset.export_minari import export_minari
from recorder.dataset.export_table import export_table
from recorder.dataset.load import Dataset, Selection, read_dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.overview import damaged_files, survey
from recorder.dataset.quarantine import add_quarantine, lift_quarantine, read_quarantines
from recorder.dataset.store import DatasetStore
from recorder.dataset.upkeep import keep_up
from recorder.settings import RecorderSettings, SettingsError
from recorder.shards import ShardError, sealed_policies


def main(arguments: Sequence[str]) -> int:
    """Run one verb; the exit status."""
    try:
        settings = RecorderSettings.load()
        options = _parser(settings).parse_args(arguments)
        run: Callable[[argparse.Namespace, RecorderSettings], int] = options.run
        return run(options, settings)
    except (DatasetError, ShardError, SettingsError, ValueError, OSError) as error:
        print(f"dqn dataset: {error}", file=sys.stderr)
        return 1


def _list(options: argparse.Namespace, settings: RecorderSettings) -> int:
    store = _store(options)
    found = [survey(store, policy) for policy in store.policies()]
    if options.json:
        return _print_json([each._asdict() for each in found])
    table = Table("policy", "parts", "episodes", "steps", "MB", "mean return", "from", "to")
    for each in found:
        table.add_row(
            each.policy,
            str(each.num_parts),
            f"{each.num_episodes:,}",
            f"{each.num_steps:,}",
            f"{each.size_bytes / 1e6:,.1f}",
            f"{each.mean_return:.2f}",
            _rfc3339(each.started_at),
            _rfc3339(each.ended_at),
        )
    return _print(table)


def _show(options: argparse.Namespace, settings: RecorderSettings) -> int:
    dataset = _dataset(options)
    shown = survey(dataset.store, dataset.policy)._asdict() | {
        "dataset_id": dataset.dataset_id,
        "sha256": dataset.sha256,
        "quarantines": [
            msgspec.to_builtins(each) for each in read_quarantines(dataset.store, dataset.policy)
        ],
    }
    if options.json:
        return _print_json(shown)
    table = Table(show_header=False)
    for name, value in shown.items():
        is_time = name in ("started_at", "ended_at")
        table.add_row(name, _rfc3339(value) if is_time else _lines(value))
    return _print(table)


def _top(options: argparse.Namespace, settings: RecorderSettings) -> int:
    groups = break_down(_dataset(options), options.by)
    if options.json:
        return _print_json([group._asdict() for group in groups[: options.limit]])
    table = Table(options.by, "steps", "episodes", "mean reward", "heuristic share")
    for group in groups[: options.limit]:
        table.add_row(
            group.value,
            f"{group.num_steps:,}",
            f"{group.num_episodes:,}",
            f"{group.mean_reward:.4g}",
            f"{group.heuristic_share:.4f}",
        )
    return _print(table)


def _build(options: argparse.Namespace, settings: RecorderSettings) -> int:
    shards, store, now = _shards_folder(options), _store(options), time.time()
    policies = options.policies or sealed_policies(shards)
    for policy in policies:
        done = keep_up(
            options.data, shards, store, policy,
            now=now, raw_days=settings.raw_days, rules=settings.join_rules,
        )  # fmt: skip
        report = done.build
        episodes = sum(part.num_episodes for part in report.parts)
        print(
            f"{policy}: {report.num_shards} new shards, {episodes} episodes sealed, "
            f"{report.num_strangers} steps of another schema and "
            f"{report.counts['no_history']} without their earlier frames left out, "
            f"{sum(len(part.replaces) for part in done.joined)} parts joined into "
            f"{len(done.joined)}, {len(done.expired)} parts older than {done.retention_days:g} "
            f"days removed, and {done.num_shards_removed} raw shards"
        )
    if not policies:
        print(f"{shards}: nothing is sealed yet")
    return 0


def _export(options: argparse.Namespace, settings: RecorderSettings) -> int:
    dataset = _dataset(options)
    if options.format == "table":
        print(f"{options.out}: {export_table(dataset, options.out)} rows")
        return 0
    name = options.name or f"dqn/{dataset.policy}-v0"
    report = export_minari(dataset, options.out, name)
    print(
        f"{options.out / name}: {report.num_episodes} episodes, {report.num_steps} steps; "
        f"{report.num_left_out} steps left out that do not know what followed"
    )
    return 0


def _audit(options: argparse.Namespace, settings: RecorderSettings) -> int:
    audit = audit_shards(_shards_folder(options))
    store = _store(options)
    damaged = [
        *audit.damaged,
        *(line for policy in store.policies() for line in damaged_files(store, policy)),
    ]
    if options.json:
        producers = [each._asdict() for each in audit.producers]
        _print_json(audit._asdict() | {"producers": producers, "damaged": damaged})
    else:
        table = Table("producer", "records", "first", "last", "missing", "doubled")
        for each in audit.producers:
            gaps = ", ".join(f"{first}-{last}" for first, last in each.gaps[:10])
            counts = (each.records, each.first, each.last)
            table.add_row(each.producer, *map(str, counts), gaps or "none", str(each.doubled))
        _print(table)
        for policy, numbers in audit.missing_shards.items():
            print(f"{policy}: shards {numbers} are not there")
        for line in damaged:
            print(line)
    return 0 if audit.is_clean and not damaged else 1


def _quarantine(options: argparse.Namespace, settings: RecorderSettings) -> int:
    store, now = _store(options), time.time()
    if options.lift is not None:
        entry = lift_quarantine(
            store, options.policy, options.lift, who=options.who, why=options.why, now=now
        )
        print(f"{entry.entry_id}: lifted")
        return 0
    if options.begin is None or options.end is None:
        raise ValueError("quarantine needs --from and --to, or --lift and the id of an entry")
    entry = add_quarantine(
        store,
        options.policy,
        begin=options.begin,
        end=options.end,
        who=options.who,
        why=options.why,
        now=now,
        episode_id=options.episode,
    )
    which = f"episodes of {options.policy}" if options.episode is None else options.episode
    print(
        f"{entry.entry_id}: out of everything that is loaded: {which}, running at any time from "
        f"{_rfc3339(entry.begin)} to {_rfc3339(entry.end)}"
    )
    return 0


def _parser(settings: RecorderSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dqn dataset", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(
        name: str, run: Callable[..., int], text: str, *, has_policy: bool = True
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--data", type=Path, default=settings.data, help="the service's folder")
        added.add_argument(
            "--shards", type=Path, default=settings.shards, help="else <data>/shards"
        )
        added.add_argument(
            "--datasets",
            default=settings.datasets,
            help="folder or URL (s3://…), else <data>/datasets",
        )
        if run in (_list, _show, _top, _audit):
            added.add_argument("--json", action="store_true", help="print JSON")
        if has_policy:
            added.add_argument("policy")
            added.add_argument("--from", dest="begin", type=_time, help="RFC 3339 or Unix seconds")
            added.add_argument("--to", dest="end", type=_time, help="itself outside")
        return added

    verb("list", _list, "what there is", has_policy=False)
    verb("show", _show, "all that is known of a policy's dataset")
    top = verb("top", _top, "steps by a tag, or by who acted and why")
    top.add_argument("--by", required=True, help=f"a tag, or one of {', '.join(COLUMNS)}")
    top.add_argument("--limit", type=int, default=20)
    make = verb(
        "build", _build, "seal what shards close, join small parts, drop old ones", has_policy=False
    )
    make.add_argument("policies", nargs="*", help="all that have shards by default")
    export = verb("export", _export, "write it for other packages")
    export.add_argument("--out", type=Path, required=True, help="a file, or Minari's root folder")
    export.add_argument("--format", choices=("table", "minari"), default="table")
    export.add_argument("--name", help="of the Minari dataset; dqn/<policy>-v0 by default")
    verb("audit", _audit, "is anything missing, doubled or damaged?", has_policy=False)
    quarantine = verb("quarantine", _quarantine, "leave a range of time out, or let it in again")
    quarantine.add_argument("--episode", metavar="ID", help="only this one of the range")
    quarantine.add_argument("--why", required=True, help="kept with the entry")
    quarantine.add_argument("--who", default=getpass.getuser())
    quarantine.add_argument("--lift", metavar="ID", help="lift an entry, as `show` names it")
    return parser


def _store(options: argparse.Namespace) -> DatasetStore:
    return DatasetStore(options.datasets or options.data / "datasets")


def _shards_folder(options: argparse.Namespace) -> Path:
    folder: Path = options.shards or options.data / "shards"
    return folder


def _dataset(options: argparse.Namespace) -> Dataset:
    selection = Selection(begin=options.begin, end=options.end)
    return read_dataset(_store(options), options.policy, selection)


def _time(text: str) -> float:
    """Unix seconds of what was typed; without a zone it is UTC."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _rfc3339(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


def _lines(value: object) -> str:
    match value:
        case dict():
            return "\n".join(f"{name}: {each}" for name, each in value.items())
        case list():
            return "\n".join(_lines(each) for each in value)
    return str(value)


def _print(table: Table) -> int:
    console = Console()
    # Off a terminal rich takes 80 columns, and cuts what does not fit.
    console.width = console.width if console.is_terminal else 200
    console.print(table)
    return 0


def _print_json(value: object) -> int:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
    return 0
