from typing import Any

import numpy as np
import pytest

from contract.declaration import LoggingRules, read_declaration, write_declaration
from contract.join import Join
from contract.privacy import (
    REDACTED,
    is_logged,
    loggable_decisions,
    loggable_outcome,
    loggable_transition,
)
from contract.records import Column, DecisionBatch, decode_record, encode_record, row_names
from contract.transitions import Transition
from tests.builders import decision_batch, declaration, outcome, transition_record

HALF = LoggingRules(logged_share=0.5)
NAMES = [f"episode-{number}" for number in range(2000)]


def batch(episode_ids: list[str | None], **changes: Any) -> DecisionBatch:
    rows = len(episode_ids)
    return decision_batch(
        np.arange(4.0 * rows, dtype=np.float32).reshape(rows, 4),
        decision_ids=["d"],
        row_counts=[rows],
        episode_ids=episode_ids,
        steps=[None if each is None else 0 for each in episode_ids],
        **changes,
    )


def test_without_rules_everything_is_logged_as_it_is() -> None:
    given = batch(["a", "b"], tags=[{"region": "north"}, None])
    assert loggable_decisions(given, LoggingRules()) is given


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_about_the_declared_share_of_episodes_is_logged_and_says_so(share: float) -> None:
    logged = loggable_decisions(batch([*NAMES]), LoggingRules(logged_share=share))
    assert logged is not None
    # Five standard errors.
    assert abs(len(logged.episode_ids) / len(NAMES) - share) < 5 * 0.5 / len(NAMES) ** 0.5
    assert logged.logged_share == share
    assert decode_record(encode_record(logged)) == logged


def test_a_larger_share_logs_every_episode_that_a_smaller_one_does() -> None:
    small = {name for name in NAMES if is_logged(name, 0.2)}
    large = {name for name in NAMES if is_logged(name, 0.3)}
    assert small < large


def test_an_episode_is_logged_whole_or_not_at_all_and_what_is_left_keeps_its_place() -> None:
    kept = next(name for name in NAMES if is_logged(name, 0.5))
    dropped = next(name for name in NAMES if not is_logged(name, 0.5))
    logged = loggable_decisions(batch([dropped, kept, dropped, kept]), HALF)
    assert logged is not None
    assert logged.episode_ids == [kept, kept]
    assert row_names(logged) == ["d/1", "d/3"]
    assert logged.observations.array()[:, 0].tolist() == [4.0, 12.0]
    assert loggable_decisions(batch([dropped]), HALF) is None
    assert loggable_outcome(outcome(episode_id=kept, step=3), HALF) is not None
    assert loggable_outcome(outcome(episode_id=dropped, step=3), HALF) is None
    assert loggable_transition(transition_record(episode_id=kept), HALF) is not None
    assert loggable_transition(transition_record(episode_id=dropped), HALF) is None


def test_decisions_without_an_episode_are_drawn_one_by_one() -> None:
    logged = loggable_decisions(batch([None] * 1000), HALF)
    assert logged is not None
    assert 400 < len(logged.episode_ids) < 600


def test_an_outcome_that_names_a_decision_is_logged_since_nobody_knows_its_episode() -> None:
    assert loggable_outcome(outcome(decision_id="d"), LoggingRules(logged_share=0.001)) is not None


def test_observations_that_may_not_be_logged_are_in_no_record_and_still_join() -> None:
    rules = LoggingRules(observations=False)
    logged = loggable_decisions(batch(["a"]), rules)
    assert logged is not None
    final = Column.of(np.ones(4, np.float32))
    reported = loggable_outcome(
        outcome(2.5, episode_id="a", step=0, truncated=True, final_observation=final), rules
    )
    whole = loggable_transition(transition_record(), rules)
    assert reported is not None
    assert whole is not None
    join = Join()
    items = [
        item
        for record in (logged, reported, whole)
        for item in join.add(decode_record(encode_record(record)))
        if isinstance(item, Transition)
    ]
    assert [item.reward for item in items] == [2.5, 2.5]
    assert [item.observation.size for item in items] == [0, 0]
    assert items[0].next_observation is None
    assert items[1].next_observation is not None
    assert items[1].next_observation.size == 0


def test_redacted_tags_tell_that_they_were_there_and_no_more() -> None:
    tags: list[dict[str, str] | None] = [{"region": "north", "account": "31"}, None]
    logged = loggable_decisions(
        batch(["a", "b"], tags=tags), LoggingRules(redacted_tags=("account",))
    )
    assert logged is not None
    assert logged.tags == [{"region": "north", "account": REDACTED}, None]


def test_whole_transitions_know_the_share_they_were_drawn_with() -> None:
    kept = next(name for name in NAMES if is_logged(name, 0.5))
    record = loggable_transition(transition_record(episode_id=kept), HALF)
    assert record is not None
    (item,) = Join().add(record)
    assert isinstance(item, Transition)
    assert item.circumstances.logged_share == 0.5


def test_what_may_be_logged_is_declared_with_the_policy(tmp_path: Any) -> None:
    rules = LoggingRules(
        logged_share=0.25, observations=False, redacted_tags=("account",), retention_days=7
    )
    declared = declaration(logging=rules)
    write_declaration(tmp_path, declared)
    assert read_declaration(tmp_path) == declared
    assert declared.schema_hash == declaration().schema_hash
