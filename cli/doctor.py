"""`dqn doctor`: looks at everything that a server needs, and says what to change."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from cli.diagnosis.finding import Finding, fault, ok, warning
from cli.diagnosis.host import check_data, check_host
from cli.diagnosis.policies import check_repository
from cli.diagnosis.redis_server import check_redis
from cli.diagnosis.server import check_port, check_prometheus
from service.keys import Keys, KeysError
from service.settings import ServiceSettings, SettingsError

_COLOURS: Final = {"ok": "green", "warning": "yellow", "fault": "red"}


def main(arguments: Sequence[str]) -> int:
    """Look; the exit status is 1 where something is at fault, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="dqn doctor",
        description="Look at settings, port, disk, clock, processor, policies, Redis and "
        "Prometheus. Further flags are those of `dqn serve`.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--strict", action="store_true", help="warnings are faults too")
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        default=os.environ.get("DQN_PROMETHEUS"),
        help="ask this Prometheus whether it scrapes and alerts (DQN_PROMETHEUS)",
    )
    options, serve_flags = parser.parse_known_args(arguments)
    findings = list(diagnose(serve_flags, options.prometheus))
    if options.json:
        sys.stdout.write(msgspec.json.encode({"findings": findings}).decode() + "\n")
    else:
        _show(findings)
    wrong = {"fault", "warning"} if options.strict else {"fault"}
    return int(any(finding.state in wrong for finding in findings))


def diagnose(serve_flags: Sequence[str], prometheus: str | None) -> Iterator[Finding]:
    """Everything, with what is quick first.

    Args:
        serve_flags: Of `dqn serve`; file and environment are read as it reads them.
        prometheus: Its address, where it is to be asked.
    """
    try:
        settings = ServiceSettings.load(serve_flags)
    except SettingsError as error:
        yield fault("settings", str(error), "`dqn serve --help` lists them; nothing else is judged")
        return
    yield ok("settings", "are valid")
    yield check_keys(settings)
    agents = (settings.host, settings.port)
    probed = settings.admin or agents
    for host, port in dict.fromkeys((agents, probed)):
        yield check_port(host, port, probed)
    yield from check_host(settings.workers)
    yield from check_data(settings.data, settings.disk_free_share, settings.spool_max_bytes)
    yield from check_repository(settings.policies, settings.allowed_heuristics)
    if settings.redis_url is None:
        yield ok("redis", "not used: everything is kept on this machine")
    else:
        yield from check_redis(settings.redis_url.get_secret_value())
    if prometheus is None:
        yield warning(
            "prometheus", "not looked at", "name it with --prometheus URL or DQN_PROMETHEUS"
        )
    else:
        yield from check_prometheus(prometheus)


def check_keys(settings: ServiceSettings) -> Finding:
    """Who may call, and who could change that."""
    path = settings.keys_file
    if path is None:
        if settings.insecure:
            return warning(
                "keys",
                f"none, and {settings.host} is listened on",
                "whoever reaches the port may promote and pin: dqn keys add NAME SCOPE... --file F",
            )
        return ok("keys", "none; only this machine is listened to")
    try:
        Keys(path)
        mode = path.stat().st_mode & 0o077
    except (KeysError, OSError) as error:
        return fault("keys", str(error), "dqn keys add NAME SCOPE... --file F makes one")
    if mode & 0o022:
        return fault("keys", f"{path} may be written by others", f"chmod 600 {path}")
    return ok("keys", f"{path} is read")


def _show(findings: Sequence[Finding]) -> None:
    table = Table("", "looked at", "found", "what to change", show_lines=False)
    for finding in findings:
        colour = _COLOURS[finding.state]
        table.add_row(f"[{colour}]{finding.state}[/]", finding.check, finding.found, finding.advice)
    console = Console()
    console.print(table)
    counts = {state: sum(each.state == state for each in findings) for state in _COLOURS}
    console.print(f"{counts['fault']} faults, {counts['warning']} warnings, {counts['ok']} ok")
