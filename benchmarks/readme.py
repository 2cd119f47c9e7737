"""`python -m benchmarks.readme`: writes the README's figures anew from the result files.

Between two markers stands what the files say and nothing else; a test holds it to them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import RESULTS_FOLDER

README: Final = Path(__file__).parents[1] / "README.md"
_BLOCK: Final = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_RATE: Final = ": requests/s"
_ANSWERED: Final = ": by the model"
_CROSSING: Final = ", from crossing"
_AFTER: Final = "after its limit was crossed, after the fault"
_RIVALS: Final = ("mosec", "triton", "kserve", "mlserver", "litserve", "bentoml", "ray", "probe")

Result = Mapping[str, Any]


def main() -> None:
    """Bring the README up to the result files."""
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")


def refreshed(readme: str) -> str:
    """The README with every block of figures as the result files say."""
    tables = {
        "serving": serving_table,
        "goals": goals_table,
        "drill": drill_table,
        "training": training_table,
    }

    def replace(block: re.Match[str]) -> str:
        return f"{block[1]}{tables[block[2]](read_results())}\n{block[3]}"

    return _BLOCK.sub(replace, readme)


def read_results() -> dict[str, Result]:
    """Name of a benchmark to its latest result."""
    paths = sorted(RESULTS_FOLDER.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def serving_table(results: Mapping[str, Result]) -> str:
    """Closed-loop loads: ours, then what each rival did in the same run and our multiple of it."""
    figures: Sequence[Result] = results["serving"]["figures"]
    loads = list(
        dict.fromkeys(
            each["figure"].removesuffix(_RATE)
            for each in figures
            if each["figure"].endswith(_RATE) and each["rival"] is not None
        )
    )
    rivals = [name for name in _RIVALS if any(_rate_of(name, load, figures) for load in loads)]
    lines = [
        _row(["load", "requests/s", "p50", "p99", *rivals]),
        _row(["---"] * (4 + len(rivals))),
    ]
    for load in loads:
        own = [
            f"{_value(f'{load}{_RATE}', figures):,.0f}",
            f"{_value(f'{load}: p50', figures):.2f} ms",
            f"{_value(f'{load}: p99', figures):.1f} ms",
        ]
        lines.append(_row([load, *own, *(_rate_of(name, load, figures) for name in rivals)]))
    return "\n".join(lines)


def drill_table(results: Mapping[str, Result]) -> str:
    """An incident a row: what told of it and how soon, who answered, what the rollout did."""
    figures: Sequence[Result] = results["drill"]["figures"]
    names = [each["figure"] for each in figures]
    lines = [
        _row(["incident", f"alert: {_AFTER}", "episodes", "answered", "rollout"]),
        _row(["---"] * 5),
    ]
    for name in names:
        if not name.endswith(_ANSWERED):
            continue
        incident = name.removesuffix(_ANSWERED)
        alerts = [
            each.removeprefix(f"{incident}: ").removesuffix(_CROSSING)
            for each in names
            if each.startswith(f"{incident}: ") and each.endswith(_CROSSING)
        ]
        told = [
            f"`{alert}` {_value(f'{incident}: {alert}{_CROSSING}', figures):.1f} s, "
            f"{_value(f'{incident}: {alert}, from fault', figures):.1f} s"
            for alert in alerts
        ]
        episodes = [
            f"{_value(f'{incident}: {alert}, finished episodes', figures):.0f}" for alert in alerts
        ]
        cells = [
            incident,
            "<br>".join(told) or "refused at once",
            "<br>".join(episodes),
            _answered(incident, figures),
            _rollout(incident, names),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def training_table(results: Mapping[str, Result]) -> str:
    """What training takes and reaches wherever a goal is set, beside whoever else does it."""
    lines = [_row(["figure", "measured", "goal", "beside"]), _row(["---"] * 4)]
    for each in results["training"]["figures"]:
        if each["met"] is not None:
            missed = "" if each["met"] else " (missed)"
            ratio = "" if each["ratio"] is None else f" ({each['ratio']:.2g}x)"
            measured = f"{each['value']:,.3g} {each['unit']}{ratio}"
            cells = [each["figure"], measured, f"{each['goal']}{missed}", each["rival"] or ""]
            lines.append(_row([cell.replace("|", "/") for cell in cells]))
    return "\n".join(lines)


def goals_table(results: Mapping[str, Result]) -> str:
    """How many of its goals each benchmark meets, and which it does not."""
    lines = [_row(["command", "goals met", "missed"]), _row(["---"] * 3)]
    for result in results.values():
        judged = [each for each in result["figures"] if each["met"] is not None]
        missed = [each for each in judged if not each["met"]]
        told = "; ".join(
            f"{each['figure']}: {each['value']:,.3g} {each['unit']} ({_goal(each)})".replace(
                "|", "/"
            )
            for each in missed
        )
        command = result["command"]
        lines.append(_row([f"`{command}`", f"{len(judged) - len(missed)} of {len(judged)}", told]))
    return "\n".join(lines)


def _answered(incident: str, figures: Sequence[Result]) -> str:
    """Shares of the rows: the model's, then the heuristic's by reason."""
    heuristic = f"{incident}: by the heuristic, "
    shares = [f"model {_value(f'{incident}{_ANSWERED}', figures):.1%}"]
    shares += [
        f"{each['figure'].removeprefix(heuristic)} {each['value']:.1%}"
        for each in figures
        if each["figure"].startswith(heuristic)
    ]
    return ", ".join(shares)


def _rollout(incident: str, names: Sequence[str]) -> str:
    """What became of the trial, without the sentence that says why."""
    start = f"{incident}: rollout "
    return next(name for name in names if name.startswith(start)).removeprefix(start).split(":")[0]


def _goal(figure: Result) -> str:
    ratio = "" if figure["ratio"] is None else f", is {figure['ratio']:.2f} x"
    return f"{figure['goal']}{ratio}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(name: str, figures: Sequence[Result]) -> float:
    return next(float(each["value"]) for each in figures if each["figure"] == name)


def _rate_of(rival: str, load: str, figures: Sequence[Result]) -> str:
    """What a rival did at a load; empty where it was not measured."""
    for each in figures:
        is_its = (each["rival"] or "").startswith(f"{rival} ")
        if each["figure"] == f"{load}{_RATE}" and is_its:
            return f"{each['rival'].split()[1]} ({each['ratio']:.2g}x)"
    return ""


if __name__ == "__main__":
    main()
