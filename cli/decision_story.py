"""One decision put together again from its records: asked, answered, what came of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from cli.decision_search import Found
from contract.decided import Decided, decided_rows
from contract.join import Join, JoinRules
from contract.records import (
    AnsweredBy,
    DecisionBatch,
    Outcome,
    Record,
    TransitionRecord,
    row_names,
    take_rows,
)
from contract.transitions import Episode, Transition


class Row(NamedTuple):
    """One row of a logged request."""

    where: str
    episode_id: str | None
    step: int | None
    decided: Decided
    is_late: bool
    """What the model said after the heuristic had answered."""
    num_rows: int
    """Of its request, as far as they stand in the same record."""


class Report(NamedTuple):
    """One outcome that names the decision."""

    where: str
    outcome: Outcome


@dataclass(frozen=True)
class Story:
    """A decision and what came of it."""

    row: Row
    late: Row | None
    """What the model said too late, where it did."""
    reports: tuple[Report, ...]
    """Every report of it, oldest first; repeats of one report once."""
    joined: Transition | None
    """What the join makes of it: None where it waits, or was given up."""
    ending: str | None
    """How its episode ended, where it is closed."""


def find_rows(found: Iterable[Found], decision_id: str) -> list[Row]:
    """The rows of a request, by `<id>` or `<id>/<row>`; ascending, what was late last."""
    rows: dict[tuple[str, bool], Row] = {}
    for where, record in found:
        if not isinstance(record, DecisionBatch):
            continue
        counts: dict[str, int] = {}
        for name in row_names(record):
            request = name.rpartition("/")[0]
            counts[request] = counts.get(request, 0) + 1
        for episode_id, step, decided in decided_rows(record):
            request = decided.name.rpartition("/")[0]
            if decision_id in (decided.name, request):
                key = (decided.name, record.is_late)
                row = Row(where, episode_id, step, decided, record.is_late, counts[request])
                # What is sealed already may also lie in the spool for a while: shards come last.
                rows[key] = row
    return sorted(rows.values(), key=lambda row: (row.is_late, _number_of(row.decided.name)))


def tell(rows: list[Row], row: Row, found: Iterable[Found], rules: JoinRules) -> Story:
    """Put a decision together with what is found under its episode's id, else under its own.

    Args:
        rows: All of its request, as `find_rows` gives them.
        row: The one that is meant.
        found: Every record that may be of its episode.
        rules: Of the recorder, by which outcomes become rewards.
    """
    known = list(found)
    join = Join(rules)
    joined: Transition | None = None
    ending: str | None = None
    items: list[Transition | Episode] = []
    for record in sorted(_of_episode(known, row), key=lambda each: each.time):
        items += join.add(record)
    for item in items:
        if isinstance(item, Episode):
            ending = item.ending
        elif _is_of(row, item):
            joined = item
    late = [each for each in rows if each.is_late and each.decided.name == row.decided.name]
    return Story(
        row=row,
        late=late[0] if late else None,
        reports=tuple(_reports(known, row)),
        joined=joined,
        ending=ending,
    )


def as_json(story: Story, *, ledger: dict[str, Any]) -> bytes:
    """All that is known of it, for another program."""
    row, decided = story.row, story.row.decided
    told = {
        "decision": decided.name,
        "policy": decided.policy,
        "time": decided.time,
        "episode_id": row.episode_id,
        "step": row.step,
        "observation": decided.observation.tolist(),
        "action_mask": _listed(decided.circumstances.action_mask),
        "tags": decided.circumstances.tags,
        "answered_by": _who(decided.answered_by),
        "action": decided.action,
        "propensity": decided.propensity,
        "epsilon": decided.circumstances.epsilon,
        "q_values": _listed(decided.q_values),
        "said_too_late": None if story.late is None else _said(story.late.decided),
        "outcomes": [
            {
                "where": report.where,
                "time": report.outcome.time,
                "reward": report.outcome.reward,
                "terminated": report.outcome.terminated,
                "truncated": report.outcome.truncated,
            }
            for report in story.reports
        ],
        "joined": None
        if story.joined is None
        else {"reward": story.joined.reward, "reported_at": story.joined.reported_at},
        "episode_ended": story.ending,
        "ledger": ledger,
        "where": row.where,
    }
    return msgspec.json.encode(told)


def _of_episode(found: list[Found], row: Row) -> Iterator[Record]:
    """The decision's own rows and outcomes, and those of its episode."""
    for _, record in found:
        match record:
            case DecisionBatch():
                wanted = [
                    number
                    for number, (episode_id, step, decided) in enumerate(decided_rows(record))
                    if _is_same_episode(row, episode_id, step) or decided.name == row.decided.name
                ]
                if wanted:
                    yield take_rows(record, wanted)
            case Outcome():
                if _names(record, row) or (
                    record.episode_id is not None and record.episode_id == row.episode_id
                ):
                    yield record
            case TransitionRecord():
                pass


def _reports(found: list[Found], row: Row) -> list[Report]:
    named = {
        record: Report(where, record)
        for where, record in found
        if isinstance(record, Outcome) and _names(record, row)
    }
    return sorted(named.values(), key=lambda each: each.outcome.time)


def _names(outcome: Outcome, row: Row) -> bool:
    if outcome.decision_id is not None:
        return f"{outcome.decision_id}/{outcome.row}" == row.decided.name
    return row.episode_id is not None and (
        (outcome.episode_id, outcome.step) == (row.episode_id, row.step)
    )


def _is_same_episode(row: Row, episode_id: str | None, step: int | None) -> bool:
    has_place = row.episode_id is not None and row.step is not None
    return has_place and episode_id == row.episode_id and step is not None


def _is_of(row: Row, transition: Transition) -> bool:
    if row.episode_id is None or row.step is None:
        return transition.episode_id == f"decision:{row.decided.name}"
    return (transition.episode_id, transition.step) == (row.episode_id, row.step)


def _number_of(name: str) -> int:
    return int(name.rpartition("/")[2])


def _said(decided: Decided) -> dict[str, Any]:
    return {"action": decided.action, "q_values": _listed(decided.q_values)}


def _who(answered_by: AnsweredBy) -> dict[str, Any]:
    return {name: getattr(answered_by, name) for name in answered_by.__struct_fields__}


def _listed(array: Any) -> Any:
    return None if array is None else array.tolist()
