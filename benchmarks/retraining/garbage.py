"""A producer that writes nonsense into the streams, past the service that would have refused it."""

import time
from typing import Any, Final

import numpy as np
import redis

from benchmarks.retraining.poles import POLICY
from contract.records import AnsweredBy, Column, DecisionBatch, Outcome, encode_record
from contract.streams import partition_of, records_key
from dqn_client.episodes import new_episode_id

_EPISODE_STEPS: Final = 20


def write_garbage(
    redis_url: str, schema_hash: str, version: int, num_episodes: int, rng: np.random.Generator
) -> None:
    """Episodes that look like a version's and hold no numbers, and as many entries of noise.

    Every other one's rewards are none either, so that nothing of those may even be sealed.
    """
    with redis.Redis.from_url(redis_url) as connection:
        producer, sequence = f"rogue-{new_episode_id()}", 0
        for number in range(num_episodes):
            episode_id = new_episode_id()
            reward = 1.0 if number % 2 else float("nan")
            key = records_key(POLICY, partition_of(episode_id))
            contents = [encode_record(_decisions(episode_id, schema_hash, version, rng))]
            contents += [encode_record(each) for each in _outcomes(episode_id, reward)]
            for content in [*contents, rng.bytes(64)]:
                sequence += 1
                fields: Any = {"producer": producer, "sequence": sequence, "record": content}
                connection.xadd(key, fields)


def _decisions(
    episode_id: str, schema_hash: str, version: int, rng: np.random.Generator
) -> DecisionBatch:
    steps = range(_EPISODE_STEPS)
    return DecisionBatch(
        policy=POLICY,
        schema_hash=schema_hash,
        time=time.time(),
        decision_ids=[new_episode_id()],
        row_counts=[_EPISODE_STEPS],
        episode_ids=[episode_id for _ in steps],
        steps=list(steps),
        observations=Column.of(np.full((_EPISODE_STEPS, 4), np.nan, np.float32)),
        action_masks=None,
        actions=Column.of(rng.integers(2, size=_EPISODE_STEPS)),
        propensities=Column.of(np.ones(_EPISODE_STEPS, np.float32)),
        q_values=Column.of(np.full((_EPISODE_STEPS, 2), np.nan, np.float16)),
        answered_by=[AnsweredBy(version, "stable", "model", None, f"{POLICY}@{version}")],
        answered_by_index=None,
    )


def _outcomes(episode_id: str, reward: float) -> list[Outcome]:
    return [
        Outcome(
            policy=POLICY,
            time=time.time(),
            decision_id=None,
            row=0,
            episode_id=episode_id,
            step=step,
            reward=reward,
            terminated=step == _EPISODE_STEPS - 1,
        )
        for step in range(_EPISODE_STEPS)
    ]
