"""`dqn status`: how everything is now and, with `--since`, what happened: for 3 a.m."""

import argparse
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from cli import prometheus, timeline
from cli.ago import ago
from cli.operate import server_parser
from cli.timeline import Line
from contract.fold import time_of
from contract.ledger import LEDGER_FILE, FileLedger, LedgerError
from dqn_client import Client, ClientError

_TIMEOUT_SECONDS: Final = 5.0
_WIDEST: Final = 110
_JOIN_RATIO: Final = re.compile(r'^dqn_join_ratio\{policy="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass
class Status:
    """What was found, and what could not be asked."""

    server: str
    now: float
    state: str = "unreachable"
    why: list[str] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    join_ratios: dict[str, float] = field(default_factory=dict)
    firing: list[prometheus.Span] = field(default_factory=list)
    silenced: list[dict[str, str]] = field(default_factory=list)
    not_asked: list[str] = field(default_factory=list)
    """What is missing from all this, and what to do for it."""
    lines: list[Line] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    """Tell; the exit status is 1 where the server does not answer."""
    options = _parser().parse_args(arguments)
    now = time.time()
    status = Status(options.server, now)
    since = now - (options.since or 0.0)
    _ask_server(status, options, since)
    _ask_prometheus(status, options, since)
    _ask_alertmanager(status, options)
    if not status.join_ratios:
        _ask_recorder(status, options)
    status.lines.sort()
    if options.json:
        print(msgspec.json.encode(status).decode())
    else:
        for line in _render(status, has_timeline=options.since is not None):
            print(line)
    return 0 if status.state != "unreachable" else 1


def _ask_server(status: Status, options: argparse.Namespace, since: float) -> None:
    try:
        key = options.key_file and Path(options.key_file).read_text(encoding="utf-8").strip()
        with Client(options.server, key, timeout_seconds=_TIMEOUT_SECONDS) as client:
            told = client.get(f"/v1/status?since={since!r}")
            status.policies = client.get("/v1/policies")["policies"]
            entries = [
                entry
                for served in status.policies
                for entry in client.get(f"/v1/policies/{served['policy']}/ledger")["entries"]
            ]
    except (ClientError, OSError) as error:
        status.why = [str(error)]
        _read_files(status, options.data, since)
        return
    status.state, status.why = told["state"], told["why"]
    entries.sort(key=lambda each: each["position"])
    status.lines += timeline.process_lines(told["events"])
    status.lines += [each for each in timeline.ledger_lines(entries) if each.at >= since]


def _read_files(status: Status, data: Path, since: float) -> None:
    """What the server would have said, as far as its folder is here."""
    history, ledger = data / "run" / "history.jsonl", data / "policies" / LEDGER_FILE
    if not ledger.exists():
        status.not_asked.append(f"ledger and restarts: {ledger} is not here either (--data)")
        return
    try:
        entries = FileLedger(ledger).read_after(0)
    except (LedgerError, OSError) as error:
        status.not_asked.append(f"ledger: {error}")
        return
    told = [
        msgspec.to_builtins(entry) | {"at": datetime.fromtimestamp(time_of(entry), UTC).isoformat()}
        for entry in entries
    ]
    found = [*timeline.ledger_lines(told), *timeline.process_lines(_events(history))]
    status.lines += [each for each in found if each.at >= since]


def _events(history: Path) -> Iterator[dict[str, Any]]:
    content = history.read_bytes() if history.exists() else b""
    for line in content.splitlines():
        try:
            yield msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue


def _ask_prometheus(status: Status, options: argparse.Namespace, since: float) -> None:
    url = options.prometheus
    if url is None:
        status.not_asked.append(
            "alerts: no Prometheus is named (--prometheus or DQN_PROMETHEUS_URL)"
        )
        return
    # Alerts that fire now are told without --since as well.
    begin = min(since, status.now - 60.0)
    try:
        fired = prometheus.fired(url, begin, status.now)
        status.lines += timeline.alert_lines(fired, prometheus.runbooks(url))
        status.lines += timeline.scrape_lines(prometheus.unscraped(url, begin, status.now))
        ratios = prometheus.join_ratios(url, begin, status.now)
    except prometheus.UnreachableError as error:
        status.not_asked.append(f"alerts: Prometheus does not answer: {error}")
        return
    status.firing = [span for span in fired if span.ended_at is None]
    status.lines += timeline.join_lines(ratios)
    status.join_ratios = {policy: samples[-1].value for policy, samples in ratios.items()}


def _ask_alertmanager(status: Status, options: argparse.Namespace) -> None:
    if options.alertmanager is None:
        if status.firing:
            status.not_asked.append(
                "silences: no Alertmanager is named (--alertmanager or DQN_ALERTMANAGER_URL)"
            )
        return
    try:
        status.silenced = prometheus.silenced(options.alertmanager)
    except prometheus.UnreachableError as error:
        status.not_asked.append(f"silences: Alertmanager does not answer: {error}")


def _ask_recorder(status: Status, options: argparse.Namespace) -> None:
    try:
        page = httpx.get(f"{options.recorder.rstrip('/')}/metrics", timeout=_TIMEOUT_SECONDS)
        page.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        status.not_asked.append(
            f"join ratio: the recorder does not answer at {options.recorder} "
            f"(--recorder): {str(error) or type(error).__name__}"
        )
        return
    status.join_ratios = {name: float(value) for name, value in _JOIN_RATIO.findall(page.text)}


def _render(status: Status, *, has_timeline: bool) -> Iterator[str]:
    at = datetime.fromtimestamp(status.now, UTC)
    yield f"{status.server} at {at:%Y-%m-%d %H:%M:%S} UTC ({at.astimezone():%H:%M:%S %Z} here)"
    is_well = status.state == "ready" and not status.why
    yield _row("server", status.state if is_well else f"{status.state}, degraded")
    for reason in status.why:
        yield _row("", reason, "dqn doctor")
    for served in status.policies:
        yield from _policy(served, status)
    for span in status.firing:
        yield _firing(span, status)
    if not status.firing and not any(each.startswith("alerts") for each in status.not_asked):
        yield _row("alerts", "none fires")
    for each in status.not_asked:
        yield _row("not asked", each)
    if not has_timeline:
        return
    yield ""
    yield f"{'local':<14} {'UTC':<9} {'':<8} what"
    for line in status.lines:
        yield _timed(line)
    if not status.lines:
        yield "nothing happened"


def _policy(served: dict[str, Any], status: Status) -> Iterator[str]:
    name = served["policy"]
    version = "no version" if served["stable"] is None else f"stable {served['stable']}"
    by = "the model answers" if served["source"] == "model" else "the HEURISTIC answers"
    ratio = status.join_ratios.get(name)
    joined = "join ratio unknown" if ratio is None else f"join ratio {ratio:.2f}"
    drift = served["drift"]
    seen = f"drift in {', '.join(drift['drifted'])}" if drift["drifted"] else "no drift"
    if not drift["armed"]:
        seen = "drift not armed"
    is_low = ratio is not None and ratio < timeline.LEAST_JOIN_RATIO
    look = "docs/runbook.md#joinratiolow" if is_low else ""
    if served["source"] != "model":
        look = "dqn policies"
    elif not drift["armed"] and served["stable"] is not None:
        look = look or f"dqn profile {name} --from-live 7d"
    yield _row(name, f"{version}, {by}; {joined}; {seen}", look)


def _firing(span: prometheus.Span, status: Status) -> str:
    labels = span.labels
    # Prometheus adds the alert's state to its labels.
    is_silenced = any(each.items() <= labels.items() for each in status.silenced)
    since = f"{datetime.fromtimestamp(span.began_at, UTC):%H:%M:%S} UTC"
    told = f"{labels.get('severity', '')} {timeline.alert_name(labels)} since {since}"
    if is_silenced:
        told += ", silenced"
    return _row("ALERT", told.strip(), f"docs/runbook.md#{labels.get('alertname', '').lower()}")


def _row(head: str, told: str, look: str = "") -> str:
    return f"{head:<12} {_one_line(told)}" + (f"  -> {look}" if look else "")


def _timed(line: Line) -> str:
    at = datetime.fromtimestamp(line.at, UTC)
    look = f"  -> {line.look}" if line.look else ""
    local = at.astimezone()
    return f"{local:%m-%d %H:%M:%S} {at:%H:%M:%S}Z {line.kind:<8} {_shortened(line.told)}{look}"


def _shortened(text: str) -> str:
    text = _one_line(text)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = server_parser("status", "How everything is and, with --since, what happened.")
    parser.add_argument("--since", type=ago, metavar="24h", help="tell what happened since")
    parser.add_argument("--prometheus", default=os.environ.get("DQN_PROMETHEUS_URL"), metavar="URL")
    parser.add_argument(
        "--alertmanager", default=os.environ.get("DQN_ALERTMANAGER_URL"), metavar="URL"
    )
    parser.add_argument(
        "--recorder",
        default=os.environ.get("DQN_RECORDER_URL", "http://127.0.0.1:8001"),
        metavar="URL",
        help="asked for the join ratio where no Prometheus is",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="read where the server does not answer"
    )
    return parser
