"""`python -m benchmarks.drill`: incidents: which alert came, how soon, and what was answered.

Service, recorder, Redis, Prometheus (a scrape a second) and Alertmanager run as processes; four
agents live on CartPole. The rules are the shipped ones, with windows and deadlines thirty times
shorter. Times are from the fault to the alert at Alertmanager's receiver.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.drill.agents import Agents, Tally, World
from benchmarks.drill.bundles import (
    EXPLODED,
    NOT_A_NUMBER,
    OVERFLOWING,
    POLICY,
    SLOW,
    WELL,
    write_versions,
)
from benchmarks.drill.scaled_rules import FACTOR
from benchmarks.drill.site import Site, site
from benchmarks.report import Figure, write_result

_LONGEST_SECONDS: Final = 90.0
_QUIET_SECONDS: Final = 150.0
_SETTLE_SECONDS: Final = 30.0
_REFUSED_SECONDS: Final = 10.0
_REFUSED: Final = 409
_QUICK: Final = 2


class Incident(NamedTuple):
    """Something that goes wrong, what should be told of it, and how it is mended."""

    name: str
    alert: str | None
    """None where the service refuses it, so that there is nothing to tell."""
    begin: Callable[[Site, World], int]
    """The service's status where it was asked, else 0."""
    end: Callable[[Site, World], int]


class Found(NamedTuple):
    """What came of an incident."""

    incident: Incident
    status: int
    seconds: float | None
    """From the fault in place until its alert was told; None where it never was."""
    tally: Tally
    """What agents were answered until then."""
    others: list[str]
    """Alerts that were told besides."""

    @property
    def is_met(self) -> bool:
        """It was told, or refused, and no agent was given what is no action."""
        is_known = (
            self.status == _REFUSED if self.incident.alert is None else self.seconds is not None
        )
        return is_known and self.tally.invalid == 0


def _ship(version: int) -> Callable[[Site, World], int]:
    return lambda site, world: site.promote(version, POLICY)


def _set(**fields: float) -> Callable[[Site, World], int]:
    def change(site: Site, world: World) -> int:
        for name, value in fields.items():
            setattr(world, name, value)
        return 0

    return change


INCIDENTS: Final = (
    Incident("a version with NaN weights is shipped", None, _ship(NOT_A_NUMBER), _ship(WELL)),
    Incident(
        "a version overflows on live data", "QValuesNonFinite", _ship(OVERFLOWING), _ship(WELL)
    ),
    Incident(
        "Q-values 3,000 times too large", "QValuesBeyondTraining", _ship(EXPLODED), _ship(WELL)
    ),
    Incident(
        "a model slower than the deadline", "HeuristicShareVeryHigh", _ship(SLOW), _ship(WELL)
    ),
    Incident("a sensor shifts by 3 degrees", "DriftFound", _set(shift=0.05), _set(shift=0.0)),
    Incident("rewards fall by a tenth", "RewardFalling", _set(reward=0.9), _set(reward=1.0)),
    Incident("rewards fall by a third", "RewardLow", _set(reward=0.66), _set(reward=1.0)),
    Incident("rewards stop coming", "OutcomesStopped", _set(reports=False), _set(reports=True)),
    Incident(
        "Redis hangs",
        "RedisDown",
        lambda site, world: site.stop_redis(),
        lambda site, world: site.resume_redis(),
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Replay every incident; 1 if one was not told, or an action was invalid."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only two incidents")
    parser.add_argument("--write", action="store_true", help="write the result file")
    parser.add_argument("--only", nargs="*", help="only incidents told by these alerts")
    options = parser.parse_args(arguments)
    incidents = [each for each in INCIDENTS if not options.only or each.alert in options.only]
    incidents = incidents[:_QUICK] if options.quick else incidents
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_versions(folder / "data" / "policies")
        with site(folder) as running:
            running.promote(WELL, POLICY, is_first=True)
            agents = Agents(running.service)
            try:
                found = [_replay(running, agents, incident) for incident in incidents]
            finally:
                agents.stop()
    _print(found)
    if options.write:
        command = ["python", "-m", "benchmarks.drill", *arguments]
        print(
            "written to", write_result("drill", command, ("numpy", "onnxruntime"), _figures(found))
        )
    return 0 if all(each.is_met for each in found) else 1


def _replay(running: Site, agents: Agents, incident: Incident) -> Found:
    _wait_until_quiet(running, incident.alert)
    before, began = agents.tally.copy(), time.monotonic()
    status = incident.begin(running, agents.world)
    in_place, told_at = time.monotonic(), None
    longest = _REFUSED_SECONDS if incident.alert is None else _LONGEST_SECONDS
    while told_at is None and time.monotonic() - in_place < longest:
        time.sleep(0.1)
        if incident.alert is not None:
            told_at = running.pager.firing_since(incident.alert, began)
    tally = agents.tally.since(before)
    others = [name for name in running.pager.names_since(began) if name != incident.alert]
    incident.end(running, agents.world)
    seconds = None if told_at is None else max(0.0, told_at - in_place)
    found = Found(incident, status, seconds, tally, others)
    print(
        f"{incident.name}: {incident.alert} after {seconds} s, {tally}, also {others}", flush=True
    )
    return found


def _wait_until_quiet(running: Site, alert: str | None) -> None:
    """Until what was before is over: its alert must be able to begin."""
    began = time.monotonic()
    time.sleep(_SETTLE_SECONDS)
    while time.monotonic() - began < _QUIET_SECONDS:
        if alert not in running.firing():
            return
        time.sleep(1.0)
    raise TimeoutError(f"{alert} still fires from before")


def _print(found: Sequence[Found]) -> None:
    table = Table(
        "incident", "alert", "after s", "episodes", "by the model", "by the heuristic", "invalid",
        "unanswered", "also told",
        title=f"drill: windows and deadlines of rules are {FACTOR} times shorter",
    )  # fmt: skip
    for each in found:
        table.add_row(
            each.incident.name,
            each.incident.alert or f"refused: {each.status}",
            _in_words(each),
            *(
                str(number)
                for number in (
                    each.tally.episodes,
                    each.tally.model,
                    each.tally.heuristic,
                    each.tally.invalid,
                    each.tally.errors,
                )
            ),
            ", ".join(each.others),
        )
    console = Console()
    console.width = console.width if console.is_terminal else 180
    console.print(table)


def _in_words(found: Found) -> str:
    if found.incident.alert is None:
        return "at once"
    return "[red]never[/red]" if found.seconds is None else f"{found.seconds:.1f}"


def _figures(found: Sequence[Found]) -> list[Figure]:
    figures = [
        Figure.at_most(
            "actions that were none, all incidents",
            sum(e.tally.invalid for e in found),
            "actions",
            0,
        )
    ]
    for each in found:
        name = f"{each.incident.name}: {each.incident.alert or 'refused'}"
        seconds = _LONGEST_SECONDS if each.seconds is None else each.seconds
        figures += [
            Figure(
                f"{name}, after",
                0.0 if each.incident.alert is None else seconds,
                "seconds",
                met=each.is_met,
            ),
            Figure(f"{name}, finished episodes until then", each.tally.episodes, "episodes"),
            Figure(f"{name}, actions by the model", each.tally.model, "actions"),
            Figure(f"{name}, actions by the heuristic", each.tally.heuristic, "actions"),
            Figure(f"{name}, calls unanswered", each.tally.errors, "calls"),
        ]
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
