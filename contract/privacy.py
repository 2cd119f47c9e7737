"""What of a decision may be logged: the declared share, with or without observations and tags.

Applied before a record is made durable: what is left out is nowhere. An episode is logged whole or
not at all, by a hash of its id, so that every replica and every record of it agree.
"""

from hashlib import blake2b

import msgspec
import numpy as np

from contract.declaration import LoggingRules
from contract.records import Column, DecisionBatch, Outcome, TransitionRecord, row_names, take_rows

REDACTED = "redacted"
"""Stands for the value of a tag that is not logged: that there was one may be known."""

_SAMPLING_KEY = b"dqn-logged-share"
_EVERYTHING = LoggingRules()


def is_logged(name: str, logged_share: float) -> bool:
    """Whether what has this name (an episode id, else a row's name) is among the share."""
    # 32 bits divide into [0, 1) exactly; 64 would round up to 1.0 and escape a share of 1.
    digest = blake2b(name.encode(), digest_size=4, key=_SAMPLING_KEY).digest()
    return int.from_bytes(digest) / 2**32 < logged_share


def loggable_decisions(batch: DecisionBatch, rules: LoggingRules) -> DecisionBatch | None:
    """What of a batch may be logged; None where none of its rows may."""
    if rules == _EVERYTHING:
        return batch
    rows = _logged_rows(batch, rules.logged_share)
    if not rows:
        return None
    if len(rows) < len(batch.episode_ids):
        batch = take_rows(batch, rows)
    if not rules.observations:
        blank = Column.of(np.zeros((len(rows), 0), np.uint8))
        batch = msgspec.structs.replace(batch, observations=blank, frame_stack=1)
    return msgspec.structs.replace(
        batch,
        tags=batch.tags and [_redacted(tags, rules.redacted_tags) for tags in batch.tags],
        logged_share=rules.logged_share,
    )


def loggable_outcome(outcome: Outcome, rules: LoggingRules) -> Outcome | None:
    """What of an outcome may be logged; None where its episode is not.

    One that names its decision by id does not say of which episode that is: it is logged, and where
    the decision was not, it joins nothing.
    """
    episode_id = outcome.episode_id
    if episode_id is not None and not is_logged(episode_id, rules.logged_share):
        return None
    if rules.observations or outcome.final_observation is None:
        return outcome
    return msgspec.structs.replace(outcome, final_observation=None)


def loggable_transition(record: TransitionRecord, rules: LoggingRules) -> TransitionRecord | None:
    """What of a whole transition may be logged; None where it may not."""
    if not is_logged(record.episode_id or record.transition_id, rules.logged_share):
        return None
    blank = Column.of(np.zeros(0, np.uint8))
    return msgspec.structs.replace(
        record,
        observation=record.observation if rules.observations else blank,
        next_observation=record.next_observation if rules.observations else blank,
        logged_share=rules.logged_share,
    )


def _logged_rows(batch: DecisionBatch, logged_share: float) -> list[int]:
    places = zip(batch.episode_ids, batch.steps, row_names(batch), strict=True)
    return [
        row
        for row, (episode_id, step, name) in enumerate(places)
        if is_logged(name if episode_id is None or step is None else episode_id, logged_share)
    ]


def _redacted(tags: dict[str, str] | None, names: tuple[str, ...]) -> dict[str, str] | None:
    if tags is None:
        return None
    return {name: REDACTED if name in names else value for name, value in tags.items()}
