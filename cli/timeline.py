"""One timeline of what people, judges, alerts and processes did: pure, oldest line first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from cli.prometheus import Sample, Span

LEAST_JOIN_RATIO: Final = 0.9
"""Below it nothing is said of rewards: too many outcomes are missing."""
_TOGETHER_SECONDS: Final = 60.0
_RUNBOOK: Final = "docs/runbook.md"


class Line(NamedTuple):
    """One thing that happened."""

    at: float
    """Unix seconds."""
    kind: str
    """`ALERT`, `over`, `ledger`, `process`, `config`, `join`."""
    told: str
    look: str
    """What to type or to read."""


_LOOK: Final = {
    "promote": "dqn policies",
    "rollback": "dqn policies",
    "canary": "dqn canary {policy}",
    "stage": "dqn canary {policy}",
    "abort": "dqn canary {policy}",
    "guardrail": "dqn canary {policy}",
    "load_failed": "dqn doctor",
    "pin": "dqn unpin {policy}, once the model may answer",
    "freeze": "dqn unfreeze {policy}, once it may change",
}
_SAID: Final = {
    "promote": "{policy}: version {version} made stable",
    "rollback": "{policy}: rolled back to version {version}",
    "canary": "{policy}: canary of version {version} begun",
    "stage": "{policy}: canary to {share}",
    "abort": "{policy}: canary ended, {outcome}",
    "guardrail": "{policy}: a guardrail took the canary off",
    "load_failed": "{policy}: version {version} does not load",
    "pin": "{policy}: pinned to the heuristic",
    "unpin": "{policy}: the model answers again",
    "freeze": "{policy}: frozen",
    "unfreeze": "{policy}: no longer frozen",
    "shadow": "{policy}: shadow of version {version}",
    "register": "{policy}: version {version} registered",
    "profile": "{policy}: version {version} judged by a profile from its log",
}


def ledger_lines(entries: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Of the changes; loads of one version are one line, and evidence only where it says new."""
    lines: list[Line] = []
    loads: dict[tuple[str, int | None], tuple[int, float, int]] = {}
    verdicts: dict[str, str] = {}
    for entry in entries:
        at = datetime.fromisoformat(entry["at"]).timestamp()
        policy, version = entry["policy"], entry.get("version")
        match entry["action"]:
            case "load":
                place, began_at, count = loads.get((policy, version), (-1, at, 0))
                if count and at - began_at <= _TOGETHER_SECONDS:
                    loads[policy, version] = (place, began_at, count + 1)
                    told = f"{policy}: version {version} live on {count + 1} workers"
                    lines[place] = lines[place]._replace(told=told)
                    continue
                loads[policy, version] = (len(lines), at, 1)
                lines.append(Line(at, "ledger", f"{policy}: version {version} live", ""))
            case "evidence":
                verdict = str(entry.get("details", {}).get("verdict", "undecided"))
                if verdicts.get(policy, "undecided") != verdict:
                    told = f"{policy}: verdict {verdict}: {entry['why']}"
                    lines.append(Line(at, "ledger", told, f"dqn canary {policy}"))
                verdicts[policy] = verdict
            case _:
                lines.append(_change(entry, at))
    return lines


def alert_lines(spans: Iterable[Span], runbooks: Mapping[str, str]) -> Iterator[Line]:
    """When alerts began to fire, and when they were over."""
    for labels, began_at, ended_at in spans:
        name = alert_name(labels)
        alert = labels.get("alertname", "")
        look = runbooks.get(alert, f"{_RUNBOOK}#{alert.lower()}")
        severity = labels.get("severity", "")
        yield Line(began_at, "ALERT", f"{severity} {name}".strip(), look)
        if ended_at is not None:
            lasted = lasting(ended_at - began_at)
            yield Line(ended_at, "over", f"{name}, after {lasted}", "")


def scrape_lines(spans: Iterable[Span]) -> Iterator[Line]:
    """When processes could not be scraped: they were away, or the way to them was."""
    for labels, began_at, ended_at in spans:
        who = f"{labels.get('job', '')} {labels.get('instance', '')}".strip()
        yield Line(began_at, "process", f"{who} is not scraped", "is it up? dqn doctor")
        if ended_at is not None:
            lasted = lasting(ended_at - began_at)
            yield Line(ended_at, "process", f"{who} is scraped again, after {lasted}", "")


def join_lines(ratios: Mapping[str, Sequence[Sample]]) -> Iterator[Line]:
    """When the join ratio fell below what rewards can be judged by, and when it was back."""
    for policy, samples in ratios.items():
        is_low = False
        for at, value in samples:
            if (value < LEAST_JOIN_RATIO) != is_low:
                is_low = not is_low
                what = "fell to" if is_low else "is back at"
                look = f"{_RUNBOOK}#joinratiolow" if is_low else ""
                yield Line(at, "join", f"{policy}: join ratio {what} {value:.2f}", look)


def process_lines(events: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Starts, ends, deaths and changed settings."""
    for event in events:
        at, told = float(event["at"]), event["told"]
        match event["what"]:
            case "worker_died":
                yield Line(at, "process", f"died and was replaced: {told}", "the service's log")
            case "changed":
                yield Line(at, "config", told, "dqn.toml, DQN_SERVE_…, policy.toml")
            case "started" if "without a word" in told:
                yield Line(at, "process", f"started, {told}", "dmesg: was it out of memory?")
            case what:
                yield Line(at, "process", f"{what}, {told}", "")


def alert_name(labels: Mapping[str, str]) -> str:
    """An alert as a person calls it: its name, and what it is about."""
    about = ", ".join(
        labels[each] for each in ("policy", "variant", "slo", "instance") if each in labels
    )
    return labels.get("alertname", "") + (f" ({about})" if about else "")


def lasting(seconds: float) -> str:
    """A length of time in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _change(entry: Mapping[str, Any], at: float) -> Line:
    action, details = entry["action"], entry.get("details", {})
    words = {
        "policy": entry["policy"],
        "version": entry.get("version"),
        "share": _share(details),
        "outcome": str(details.get("outcome", "aborted")).replace("_", " "),
    }
    said = _SAID.get(action, "{policy}: " + action).format(**words)
    told = f"{said}, by {entry['who']}: {entry['why']}"
    return Line(at, "ledger", told, _LOOK.get(action, "").format(**words))


def _share(details: Mapping[str, Any]) -> str:
    share = details.get("share")
    is_told = isinstance(share, float | int)
    return f"a share of {share:g}" if is_told else f"stage {details.get('stage')}"
