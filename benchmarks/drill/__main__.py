"""`python -m benchmarks.drill`: incidents: which alert came, how soon, and what was answered.

Service, recorder, Redis, Prometheus and Alertmanager run as processes; four agents live on
CartPole. The rules are the shipped ones with windows and deadlines thirty times shorter, those of
the burn rates too, and rules are evaluated as often as is scraped: every second. "Crossed" counts
from the first scrape whose sample is beyond the rule's limit, and stays there, to the alert at
Alertmanager's receiver, and must be within two scrape intervals and the rule's own wait.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.drill.agents import Agents
from benchmarks.drill.bundles import EXPLODED, WELL, write_versions
from benchmarks.drill.incidents import INCIDENTS, Incident
from benchmarks.drill.meltdown import Refusals, melt_down
from benchmarks.drill.replay import Found, Told, replay
from benchmarks.drill.scaled_rules import FACTOR
from benchmarks.drill.site import site
from benchmarks.report import Figure, write_result

_QUICK: Final = ("QValuesNonFinite", "RedisDown")
_SETTLE_SECONDS: Final = 30.0
"""Between incidents: some rules ask what was before, and that is to be the usual."""
_QUICK_SETTLE_SECONDS: Final = 8.0
_PLAIN_WIDTH: Final = 200


def main(arguments: Sequence[str]) -> int:
    """Replay every incident; 1 if one was not told in time, or an agent not answered well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only two incidents, and no training")
    parser.add_argument("--write", action="store_true", help="write the result file")
    parser.add_argument("--only", nargs="*", help="only incidents told by these alerts")
    options = parser.parse_args(arguments)
    incidents = _chosen(_QUICK if options.quick else options.only)
    found: list[Found] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = folder / "data" / "policies"
        write_versions(repository)
        refusals = None
        if any(incident.version == EXPLODED for incident in incidents):
            refusals = melt_down(folder, repository)
            print(f"training: {refusals.training}\nexport: {refusals.exporter}", flush=True)
        with site(folder) as running:
            running.operate("promote", version=WELL, first=True)
            agents = Agents(running.service)
            try:
                settle_seconds = _QUICK_SETTLE_SECONDS if options.quick else _SETTLE_SECONDS
                for incident in incidents:
                    found.append(replay(running, agents, incident, settle_seconds))
                    print(_line(found[-1]), flush=True)
            finally:
                agents.stop()
    _print(found)
    if options.write:
        command = ["python", "-m", "benchmarks.drill", *arguments]
        figures = _figures(found, refusals)
        print("written to", write_result("drill", command, ("numpy", "onnxruntime"), figures))
    return 0 if all(each.is_met for each in found) else 1


def _chosen(alerts: Sequence[str] | None) -> list[Incident]:
    return [each for each in INCIDENTS if not alerts or set(each.alerts) & set(alerts)]


def _line(found: Found) -> str:
    return f"{found.incident.name}: {found.told}, {found.tally.rows}, also {found.others}"


def _print(found: Sequence[Found]) -> None:
    table = Table(
        "incident", "alert", "from fault", "from crossing", "at most", "episodes", "by the model",
        "by the heuristic", "invalid", "failed", "rollout", "also told", "met",
        title=f"drill: windows and deadlines of rules are {FACTOR} times shorter",
    )  # fmt: skip
    for each in found:
        refused = f"refused: {each.status}"
        table.add_row(
            each.incident.name,
            "\n".join(told.alert for told in each.told) or refused,
            "\n".join(_seconds(told.seconds_from_fault) for told in each.told),
            "\n".join(_seconds(told.seconds_from_crossing) for told in each.told),
            "\n".join(f"{told.limit_seconds:.0f} s" for told in each.told),
            "\n".join(str(told.episodes) for told in each.told),
            f"{each.tally.model_share:.1%}",
            ", ".join(f"{share:.1%} {why}" for why, share in each.tally.reasons.items()),
            str(each.tally.invalid),
            str(each.tally.failed),
            each.rollout,
            ", ".join(each.others),
            "yes" if each.is_met else "[red]NO[/red]",
        )
    console = Console()
    console.width = console.width if console.is_terminal else _PLAIN_WIDTH
    console.print(table)


def _seconds(found: float | None) -> str:
    return "[red]never[/red]" if found is None else f"{found:.1f} s"


def _figures(found: Sequence[Found], refusals: Refusals | None) -> list[Figure]:
    tallies = [each.tally for each in found]
    figures = [
        Figure.at_most(
            "actions that were none, all incidents", sum(t.invalid for t in tallies), "actions", 0
        ),
        Figure.at_most(
            "calls that failed, all incidents", sum(t.failed for t in tallies), "calls", 0
        ),
    ]
    if refusals is not None:
        figures += [
            Figure(f"the meltdown: training {refusals.training}", 1, "refusal", met=True),
            Figure(f"the meltdown: exporter {refusals.exporter}", 1, "refusal", met=True),
        ]
    for each in found:
        figures += _figures_of(each)
    return figures


def _figures_of(found: Found) -> list[Figure]:
    name, tally = found.incident.name, found.tally
    figures = [figure for told in found.told for figure in _figures_of_alert(found, told)]
    if not found.told:
        figures.append(
            Figure(f"{name}: refused", found.status, "status", "refused", met=found.is_met)
        )
    figures.append(Figure(f"{name}: by the model", tally.model_share, "share"))
    figures += [
        Figure(f"{name}: by the heuristic, {why}", share, "share")
        for why, share in tally.reasons.items()
    ]
    rolled_back = found.is_rolled_back if found.incident.is_trial else None
    figures.append(
        Figure(f"{name}: rollout {found.rollout}", float(found.is_rolled_back), "rolled back",
               "at least 1" if found.incident.is_trial else None, met=rolled_back)
    )  # fmt: skip
    return figures


def _figures_of_alert(found: Found, told: Told) -> list[Figure]:
    name, most = f"{found.incident.name}: {told.alert}", found.incident.most_episodes
    longest = found.incident.longest_seconds
    crossing = longest if told.seconds_from_crossing is None else told.seconds_from_crossing
    fault = longest if told.seconds_from_fault is None else told.seconds_from_fault
    episodes = f"{name}, finished episodes"
    return [
        Figure.at_most(f"{name}, from crossing", crossing, "seconds", told.limit_seconds),
        Figure(f"{name}, from fault", fault, "seconds"),
        Figure(episodes, told.episodes, "episodes")
        if most is None
        else Figure.at_most(episodes, told.episodes, "episodes", most),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
