"""`python -m benchmarks.hacking`: which reward hacks are caught, and who is accused wrongly.

Honest landings of LunarLander's heuristic make the reference, as the exporter does. Then eight
kinds of episodes whose reward has a loophole stand among as many honest ones.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.hacking.flights import (
    HACKS,
    Flight,
    fly,
    hacked_flights,
    honest_pilot,
    read_heuristic,
)
from benchmarks.report import Figure, print_figures, write_result
from contract.conduct import ConductReference, make_reference, observation_cells
from contract.drift_reference import ColumnReference, make_columns
from contract.records import AnsweredBy
from contract.transitions import Episode, Transition
from recorder.hacking import Caught, HackingChecks
from recorder.traces import Trace, Traces

_POLICY: Final = "lunarlander"
_WHO: Final = AnsweredBy(1, "stable", "model", None, f"{_POLICY}@1")
_RIVAL: Final = "Evaluator Stress Test: 0.784 and 0.817 (published, 15 environments)"
_DECLARATION: Final = Path("exporter/declarations/lunarlander.toml")


def main(arguments: Sequence[str]) -> int:
    """Play, judge, print, write; 1 if a goal is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hacking", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 episodes a kind")
    parser.add_argument("--write", action="store_true", help="write the result file")
    options = parser.parse_args(arguments)
    figures = measure(5 if options.quick else 50, 40 if options.quick else 200)
    print_figures("reward hacking", figures)
    if options.write:
        command = ["python", "-m", "benchmarks.hacking", *arguments]
        packages = ("numpy", "gymnasium", "box2d")
        print("written to", write_result("hacking", command, packages, figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


def measure(episodes_a_kind: int, reference_episodes: int) -> list[Figure]:
    """Precision and recall, and what was caught of each kind by which check."""
    rng = np.random.default_rng(30)
    heuristic = read_heuristic(_DECLARATION)
    honest = [
        fly(honest_pilot(heuristic, seed), seed)
        for seed in range(reference_episodes + episodes_a_kind * len(HACKS))
    ]
    columns, reference = _reference(honest[:reference_episodes])
    accused = [
        caught
        for caught in _judge(honest[reference_episodes:], columns, reference, "honest")
        if caught is not None
    ]
    figures, num_caught = [], 0
    for name, hack in HACKS.items():
        least = reference.lowest_earning_return
        flights = hacked_flights(hack, heuristic, episodes_a_kind, least, rng)
        found = [each for each in _judge(flights, columns, reference, name) if each is not None]
        num_caught += len(found)
        checks = Counter(check for caught in found for check in caught.checks)
        told_by = ", ".join(f"{check} {count}" for check, count in checks.most_common())
        figures.append(Figure(f"{name}: caught of {len(flights)} ({told_by})", len(found), ""))
    num_hacked = episodes_a_kind * len(HACKS)
    wrongly = Counter(check for caught in accused for check in caught.checks)
    return [
        Figure(
            "precision",
            num_caught / max(1, num_caught + len(accused)),
            "share",
            "at least 0.9",
            _RIVAL,
            met=num_caught >= 9 * len(accused),
        ),
        Figure(
            "recall",
            num_caught / num_hacked,
            "share",
            "at least 0.9",
            _RIVAL,
            met=num_caught >= 0.9 * num_hacked,
        ),
        Figure(f"honest episodes accused of {num_hacked} ({dict(wrongly)})", len(accused), ""),
        *figures,
    ]


def _reference(
    flights: Sequence[Flight],
) -> tuple[tuple[ColumnReference, ...], ConductReference]:
    observations = np.concatenate([flight.observations for flight in flights])
    lengths = np.array([len(flight.actions) for flight in flights])
    columns = make_columns(observations, lengths)
    reference = make_reference(
        np.concatenate([flight.rewards for flight in flights]),
        np.concatenate([flight.actions for flight in flights]),
        observation_cells(observations, columns),
        lengths,
        np.array([flight.has_landed for flight in flights]),
    )
    if reference is None:
        raise ValueError(f"{len(flights)} flights are too few for a reference")
    return columns, reference


def _judge(
    flights: Sequence[Flight],
    columns: tuple[ColumnReference, ...],
    reference: ConductReference,
    name: str,
) -> list[Caught | None]:
    """What the recorder's checks make of them, told as the join tells it."""
    traces = Traces(lambda policy, version: columns)
    checks = HackingChecks(lambda version: reference, lambda caught: None, _has_landed)
    judged: list[Caught | None] = []
    for number, flight in enumerate(flights):
        for item in _items(flight, f"{name}-{number}"):
            trace = traces.add(item)
            if trace is not None:
                judged.append(checks.add(trace))
    return judged


def _has_landed(trace: Trace) -> float | None:
    final = trace.last_observation
    return None if final is None else float(final[6:8].sum() == 2)


def _items(flight: Flight, episode_id: str) -> list[Transition | Episode]:
    following = [*flight.observations[1:], flight.final_observation]
    last = len(flight.actions) - 1
    transitions = [
        Transition(
            policy=_POLICY,
            schema_hash="",
            episode_id=episode_id,
            step=step,
            observation=flight.observations[step],
            action=int(flight.actions[step]),
            reward=float(flight.rewards[step]),
            next_observation=following[step],
            terminated=step == last,
            truncated=False,
            propensity=1.0,
            answered_by=_WHO,
            q_values=None,
            time=float(step),
        )
        for step in range(last + 1)
    ]
    rewards = tuple(flight.rewards.tolist())
    episode = Episode(_POLICY, episode_id, "terminated", rewards, True, (_WHO,), 0.0, float(last))
    return [*transitions, episode]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
