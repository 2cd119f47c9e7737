"""A cycle's story, for people: what it read, learned and found, and what it shipped."""

from retraining.state import CycleState, run_name


def render_report(state: CycleState) -> str:
    """The report of a cycle, as Markdown."""
    parts = [
        f"# Retraining of {state.policy}, cycle {state.cycle_id}",
        f"**{state.outcome or 'not over'}**: {state.sentence}",
        _lineage(state),
        _data(state),
        _learning(state),
        _verdict(state),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _lineage(state: CycleState) -> str:
    rows = [
        ("learned on from", None if state.parent is None else f"version {state.parent}"),
        ("dataset", state.dataset_id),
        ("dataset SHA-256", state.dataset_sha256),
        ("network SHA-256", state.checkpoint_sha256),
        ("exported as", None if state.version is None else f"version {state.version}"),
        ("bundle SHA-256", state.bundle_sha256),
    ]
    return "## Lineage\n\n" + _table(rows)


def _data(state: CycleState) -> str:
    if not state.num_steps:
        return ""
    rows = [("steps", f"{state.num_steps:,}"), ("episodes", f"{state.num_episodes:,}")]
    rows += [
        (f"episodes left out: {why}", f"{count:,}")
        for why, count in state.suspicious.items()
        if count
    ]
    return "## Data\n\n" + _table(rows)


def _learning(state: CycleState) -> str:
    if not state.candidates and not state.diverged:
        return ""
    lines = [
        "| alpha, or learned in a model | updates | lower bound of the advantage | |",
        "|---|---|---|---|",
    ]
    for alpha, updates, bound in state.candidates:
        mark = "chosen" if (alpha, updates) == state.chosen else ""
        told = "not possible" if bound is None else f"{bound:.4g}"
        lines.append(f"| {run_name(alpha)} | {updates:,} | {told} | {mark} |")
    lines += [f"\nalpha {name} was stopped: {why}" for name, why in state.diverged.items()]
    is_drawn = any(bound is not None for _, _, bound in state.candidates)
    picture = "\n\n![Lower bounds](learning.svg)" if is_drawn else ""
    return "## Learning\n\n" + "\n".join(lines) + picture


def _verdict(state: CycleState) -> str:
    if state.verdict is None:
        return ""
    rows = [
        (name.replace("_", " "), _told(value))
        for name, value in state.verdict.evidence.model_dump().items()
    ]
    rows += [
        (f"simulated return of the {whose}", f"{found:.4g}")
        for whose, found in state.simulated_returns.items()
    ]
    told = f"**{state.verdict.decision}**: {state.verdict.sentence}"
    return f"## Verdict\n\n{told}\n\n![Estimates](verdict.svg)\n\n{_table(rows)}"


def _told(value: float | str | None) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:.4g}"


def _table(rows: list[tuple[str, str | None]] | list[tuple[str, str]]) -> str:
    told = [f"| {name} | {value} |" for name, value in rows if value is not None]
    return "\n".join(["| | |", "|---|---|", *told])
