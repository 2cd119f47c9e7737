"""`dqn decisions show ID`: one decision, from the records that were kept of it."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis

from cli.ago import ago
from cli.decision_search import Places
from cli.decision_story import Report, Row, Story, as_json, find_rows, tell
from contract.declaration import DeclarationError, PolicyDeclaration, read_declaration
from contract.fold import state_at, time_of
from contract.ledger import LEDGER_FILE, Entry, FileLedger, LedgerError
from recorder.settings import RecorderSettings, SettingsError
from recorder.shards import ShardError

_SHOWN_ELEMENTS: Final = 16
_FACTS: Final = frozenset({"load", "load_failed", "evidence"})
"""Entries that change nothing of what is served."""


def main(arguments: Sequence[str]) -> int:
    """Show one decision; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = RecorderSettings(data=options.data)
        url = options.redis_url or settings.read_redis_url()
        places = Places(settings.spools, settings.shards_folder, url)
        since = 0.0 if options.since is None else time.time() - options.since
        rows = find_rows(places.find(options.id.partition("/")[0], since), options.id)
        if not rows:
            print(f"dqn decisions: no decision {options.id!r}: looked in", file=sys.stderr)
            print(f"  {places.describe()}", file=sys.stderr)
            for hint in _hints(options.data / "policies"):
                print(f"  {hint}", file=sys.stderr)
            return 1
        row = rows[0]
        episode = row.decided.name.rpartition("/")[0] if row.episode_id is None else row.episode_id
        began = row.decided.time - settings.episode_timeout_seconds
        found = [*places.find(episode, began)]
        if row.episode_id is not None:
            # An outcome may name the decision alone.
            found += places.find(row.decided.name.rpartition("/")[0], began)
        story = tell(rows, row, found, settings.join_rules)
        entries = FileLedger(options.data / "policies" / LEDGER_FILE).read_after(0)
        if options.json:
            print(as_json(story, ledger=_in_force(entries, row)).decode())
        else:
            for line in _lines(story, entries, _declared(options.data, row.decided.policy)):
                print(line)
    except (ShardError, SettingsError, LedgerError, redis.RedisError, OSError) as error:
        print(f"dqn decisions: {error}", file=sys.stderr)
        return 1
    return 0


def _lines(story: Story, entries: list[Entry], declared: PolicyDeclaration | None) -> Iterator[str]:
    row, decided = story.row, story.row.decided
    others = "" if row.num_rows == 1 else f" (one of {row.num_rows} rows of its request)"
    yield f"decision {decided.name} of {decided.policy}{others}"
    place = "no episode" if row.episode_id is None else f"episode {row.episode_id}, step {row.step}"
    yield _line("asked", f"{_clock(decided.time)}, {place}")
    yield _line("", f"observation {_array(decided.observation)}")
    mask = decided.circumstances.action_mask
    if mask is not None and not mask.all():
        legal = ", ".join(_label(declared, each) for each in np.flatnonzero(mask).tolist())
        yield _line("", f"legal: {legal}")
    if decided.circumstances.tags:
        tags = ", ".join(f"{key}={value}" for key, value in decided.circumstances.tags.items())
        yield _line("", f"tags: {tags}")
    yield from _answer(story, declared)
    yield from _outcome(story)
    yield from _ledger(entries, row)
    yield _line("found in", row.where)


def _answer(story: Story, declared: PolicyDeclaration | None) -> Iterator[str]:
    decided = story.row.decided
    who = decided.answered_by
    by = f"the model, version {who.version}" if who.source == "model" else "the heuristic"
    why = "" if who.reason is None else f" because of {who.reason}"
    yield _line(
        "answered",
        f"action {_label(declared, decided.action)} by {by} ({who.variant}, {who.behaviour}){why}",
    )
    epsilon = decided.circumstances.epsilon
    drawn = "not exploring" if epsilon == 0 else f"exploring with epsilon {epsilon:g}"
    yield _line("", f"propensity {decided.propensity:.4g}, {drawn}")
    yield _line("", _q_values(decided.q_values, declared))
    if story.late is not None:
        late = story.late.decided
        yield _line(
            "too late",
            f"the model said action {_label(declared, late.action)}; "
            f"{_q_values(late.q_values, declared)}",
        )


def _outcome(story: Story) -> Iterator[str]:
    if not story.reports:
        yield _line("outcome", "none was reported")
    for report in story.reports:
        yield _line("outcome", _report(report, story.row))
    if story.joined is not None:
        yield _line("joined", f"reward {story.joined.reward:g} is what is learned from")
    elif story.reports:
        yield _line("joined", "not yet: it waits for the next step, or for the end of its window")
    if story.ending is not None:
        yield _line("episode", f"closed: {story.ending}")


def _report(report: Report, row: Row) -> str:
    outcome = report.outcome
    after = outcome.time - row.decided.time
    flags = [name for name in ("terminated", "truncated") if getattr(outcome, name)]
    return ", ".join(
        [f"reward {outcome.reward:g} reported {after:.3g} s later", *flags, f"in {report.where}"]
    )


def _ledger(entries: list[Entry], row: Row) -> Iterator[str]:
    told = _in_force(entries, row)
    trial = ""
    if told["canary"] is not None:
        trial = f", canary {told['canary']} at a share of {told['canary_share']:g}"
    words = [word for word in ("pinned", "frozen") if told[word]]
    yield _line("ledger", ", ".join([f"stable {told['stable']}{trial}", *words]))
    last = told["last_change"]
    if last is not None:
        version = "" if last["version"] is None else f" {last['version']}"
        yield _line(
            "",
            f"since {last['at']}: {last['action']}{version} by {last['who']}, {last['why']} "
            f"(entry {last['position']})",
        )


def _in_force(entries: list[Entry], row: Row) -> dict[str, Any]:
    """What the ledger said when the decision was made."""
    policy, moment = row.decided.policy, row.decided.time
    state = state_at(entries, policy, moment)
    trial = state.open_rollout
    changes = [
        each
        for each in entries
        if each.policy == policy and each.action not in _FACTS and time_of(each) <= moment
    ]
    last = changes[-1] if changes else None
    return {
        "stable": state.stable,
        "canary": state.canary,
        "canary_share": 0.0 if trial is None else trial.share,
        "rollout_id": None if trial is None else trial.rollout_id,
        "pinned": state.is_pinned,
        "frozen": state.is_frozen,
        "last_change": None
        if last is None
        else {
            name: getattr(last, name)
            for name in ("position", "at", "action", "version", "who", "why")
        },
    }


def _hints(repository: Path) -> Iterator[str]:
    """Why a decision that was made may not be there."""
    yield "an answer names it: `decision_id`, and `/<row>` behind it for one of several rows"
    for path in sorted(repository.glob("*/policy.toml")):
        try:
            rules = read_declaration(path.parent).logging
        except DeclarationError:
            continue
        if rules.logged_share < 1:
            yield f"{path.parent.name} logs {rules.logged_share:g} of its episodes"
        yield f"{path.parent.name} keeps them for {rules.retention_days:g} days"


def _declared(data: Path, policy: str) -> PolicyDeclaration | None:
    try:
        return read_declaration(data / "policies" / policy)
    except DeclarationError:
        return None


def _label(declared: PolicyDeclaration | None, action: int) -> str:
    labels = None if declared is None else declared.actions.labels
    known = labels is not None and action < len(labels)
    return f"{action} ({labels[action]})" if labels is not None and known else str(action)


def _q_values(q_values: Any, declared: PolicyDeclaration | None) -> str:
    if q_values is None or np.isnan(q_values).all():
        return "no Q-values"
    best = np.sort(q_values.astype(np.float64))
    order = np.argsort(-q_values)[:_SHOWN_ELEMENTS].tolist()
    told = ", ".join(f"{_label(declared, action)} {q_values[action]:.3g}" for action in order)
    return f"Q-values: {told}; gap {best[-1] - best[-2]:.3g}"


def _array(array: Any) -> str:
    if array.size == 0:
        return "was not logged"
    shape = f"{array.dtype} {list(array.shape)}"
    if array.size <= _SHOWN_ELEMENTS:
        return f"{shape}: {', '.join(f'{each:.5g}' for each in array.ravel().tolist())}"
    return f"{shape}: least {array.min():g}, mean {array.mean():.4g}, most {array.max():g}"


def _clock(moment: float) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    local = at.astimezone()
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC ({local:%H:%M:%S %Z} here)"


def _line(head: str, text: str) -> str:
    return f"  {head:<9} {text}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dqn decisions", description="Look at what was decided.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="one decision", description=__doc__)
    show.add_argument("id", help="of a request, or `<id>/<row>` for one of its rows")
    show.add_argument("--data", type=Path, default=Path("data"), help="the service's folder")
    show.add_argument("--redis-url", help="DQN_RECORD_REDIS_URL where left out")
    show.add_argument("--since", type=ago, help="look no further back, such as 7d")
    show.add_argument("--json", action="store_true", help="all of it, the observation too")
    return parser
