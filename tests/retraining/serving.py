"""A small policy as it is served and logged: a checkpoint, its version, its sealed episodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from contract.records import AnsweredBy, Column, Record
from exporter.config import ExportConfig
from exporter.export import export
from recorder.dataset.build import build
from recorder.dataset.store import DatasetStore
from retraining.config import RetrainConfig
from retraining.dynamics import DynamicsConfig
from retraining.fitted_q import FittedQConfig
from retraining.gate import GateLimits
from retraining.practice import PracticeConfig
from tests.builders import POLICY, decision_batch, outcome
from tests.exporter.checkpoints import network, write_small_checkpoint
from tests.recorder.dataset.episodes import sealed_log
from training.actor import q_function
from training.network import QNetwork
from training.offline import OfflineConfig

EPSILON = 0.3
EPISODES = 60
BEGIN = 1000.0
NOW = 2_000_000_000.0
LENIENT = GateLimits(
    tolerated_share=1e3,
    least_gain_share=0.0,
    self_check_share=1e3,
    opinion_share=1e3,
    unsupported_share=1.0,
    least_episodes=10,
)
STRICT = LENIENT.model_copy(update={"least_gain_share": 1e3})


def current_network() -> QNetwork:
    return network(hidden_sizes=(8, 8))


def write_version(data: Path) -> Path:
    """The first version, exported from a checkpoint below `data/training`; the checkpoint."""
    checkpoint = write_small_checkpoint(data / "training" / "first", current_network())
    export(
        ExportConfig(
            checkpoint=checkpoint,
            repository=data / "policies",
            policy=POLICY,
            profile_episodes=2,
            profile_observations=1,
            floor_episodes=2,
        )
    )
    return checkpoint


def episode(
    number: int, version: int = 1, *, shift: float = 0.0, reward: float = 1.0
) -> list[Record]:
    """One episode of CartPole by the first version, exploring; `shift` alters what is logged."""
    rng = np.random.default_rng(number)
    q_values_of = q_function(current_network())
    environment = gymnasium.make("CartPole-v1")
    seen, _ = environment.reset(seed=number)
    observations, actions, q_values = [], [], []
    has_ended = False
    while not has_ended:
        found = q_values_of(seen[np.newaxis])[0]
        action = int(found.argmax()) if rng.random() > EPSILON else int(rng.integers(2))
        observations.append(seen)
        actions.append(action)
        q_values.append(found)
        seen, _, terminated, truncated, _ = environment.step(action)
        has_ended = terminated or truncated
    environment.close()
    greedy = np.argmax(q_values, axis=1) == np.array(actions)
    begin = BEGIN + 1000 * number
    name = f"episode-{number}"
    return [
        decision_batch(
            (np.array(observations) + shift).astype(np.float32),
            actions=actions,
            decision_ids=[f"{name}-d"],
            episode_ids=[name] * len(actions),
            steps=list(range(len(actions))),
            time=begin,
            propensities=Column.of(
                np.where(greedy, 1 - EPSILON / 2, EPSILON / 2).astype(np.float32)
            ),
            q_values=Column.of(np.array(q_values, np.float16)),
            answered_by=[AnsweredBy(version, "stable", "model", None, f"{POLICY}@{version}")],
            epsilon=EPSILON,
        ),
        *(
            outcome(
                reward,
                time=begin + step + 1,
                episode_id=name,
                step=step,
                terminated=step == len(actions) - 1,
            )
            for step in range(len(actions))
        ),
    ]


def seal_episodes(data: Path, episodes: Sequence[list[Record]]) -> None:
    """Into shards and from there into the dataset, as recorder and `dqn dataset build` do."""
    sealed_log(data / "shards", [record for each in episodes for record in each])
    build(data / "shards", DatasetStore(data / "datasets"), POLICY, NOW)


def config(data: Path, **changes: Any) -> RetrainConfig:
    """A cycle of seconds whose gate lets nearly everything through."""
    fields: dict[str, Any] = {
        "policy": POLICY,
        "data": data,
        "once": True,
        "least_new_steps": 1,
        "shadow_seconds": 0.0,
        "profile_episodes": 2,
        "profile_observations": 1,
        "floor_episodes": 2,
        "offline": OfflineConfig(alphas=(0.5,), updates=60, candidate_updates=(30,), batch_size=32),
        "dynamics": DynamicsConfig(
            members=2, updates=100, batch_size=64, hidden_size=16, starts=20
        ),
        "practice": PracticeConfig(
            updates=40, candidate_every_updates=20, batch_size=32, lanes=8, plays_kept=4
        ),
        "fitted": FittedQConfig(
            draws=2,
            starts=2,
            updates=150,
            batch_size=64,
            hidden_size=16,
            learning_rate=0.01,
            target_blend=0.1,
        ),
        "limits": LENIENT,
    }
    return RetrainConfig(**(fields | changes))
