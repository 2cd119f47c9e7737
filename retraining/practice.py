"""Learning in a model of the environment what the log alone shows too little of.

From one step of a policy that hardly explores, conservative learning takes one improvement. In a
model it goes on to where that leads, as in Dyna (Sutton, 1990), and what leaves the log ends there
with a low value, so that nothing is gained by going where the model guesses (MOReL: Kidambi et al.,
2020). Whoever judges what came of it must have learned a model of its own.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from contract.declaration import Record
from retraining.dynamics import Dynamics, DynamicsConfig
from retraining.imagined import horizon_of
from retraining.importance import returns_spread, whole_episodes
from retraining.rollouts import exploring, greedy, value_beyond
from training.network import QNetwork
from training.offline import Learned, OfflineConfig, learn_candidates
from training.offline_log import LoggedSteps, LogReplay, OfflineBatch


class PracticeConfig(Record):
    """How candidates are learned in a model."""

    updates: PositiveInt = 4_000
    candidate_every_updates: PositiveInt = 500
    batch_size: PositiveInt = 256
    logged_share: float = Field(default=0.25, ge=0, lt=1)
    """Of each batch, from the log itself."""
    learning_rate: PositiveFloat = 1e-3
    """At the beginning; it falls to 0 in a straight line."""
    target_blend: float = Field(default=0.02, gt=0, le=1)
    """Share of the network that its lagging copy takes over at each update."""
    lanes: PositiveInt = 32
    """Episodes that go on side by side against each member."""
    play_every_updates: PositiveInt = 20
    """After which the newest policy plays on."""
    steps_at_once: PositiveInt = 10
    """Of each lane, whenever one plays."""
    plays_kept: PositiveInt = 32
    """The newest ones, that are learned from."""
    epsilon: float = Field(default=0.1, ge=0, le=1)
    """Probability of a random action while playing."""

    @property
    def learning(self) -> OfflineConfig:
        """Double DQN without conservatism: leaving the log costs enough."""
        return OfflineConfig(
            method="plain",
            updates=self.updates,
            candidate_updates=tuple(
                range(self.candidate_every_updates, self.updates, self.candidate_every_updates)
            ),
            batch_size=self.batch_size,
            rehearsed_share=self.logged_share,
            anchor_strength=0.0,
            learning_rate=self.learning_rate,
            target_blend=self.target_blend,
            check_every_updates=self.play_every_updates,
        )


class Practice:
    """Owns episodes that go on in a model, and what their newest steps showed.

    Args:
        dynamics: The model.
        log: What it was learned from; episodes begin at any of its observations.
        beyond: What the rest of an episode counts that leaves the log.
        horizon: Most steps of an episode.
        discount: Per step.
        config: How much is played.
        seed: Of all draws.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        log: LoggedSteps,
        beyond: float,
        horizon: int,
        discount: float,
        config: PracticeConfig,
        seed: int,
    ) -> None:
        self._dynamics, self._config = dynamics, config
        self._beyond, self._horizon, self._discount = beyond, horizon, discount
        self._num_actions = log.legal_actions.shape[1]
        self._logged = torch.from_numpy(log.observations.astype(np.float32))
        self._generator = torch.Generator().manual_seed(seed)
        self._observations = self._begin()
        self._steps = torch.zeros(self._observations.shape[:2], dtype=torch.int64)
        self._plays: deque[_Step] = deque(maxlen=config.plays_kept * config.steps_at_once)

    @torch.no_grad()
    def play(self, network: QNetwork) -> None:
        """Go on with each episode for some steps; what is over begins anew."""
        act = exploring(
            greedy(network),
            torch.tensor(self._config.epsilon),
            self._num_actions,
            self._generator,
        )
        for _ in range(self._config.steps_at_once):
            before = self._observations
            actions = act(before)
            following = self._dynamics.follow(before, actions)
            leaves = ~following.terminated & ~following.is_known
            ends = following.terminated | leaves
            rewards = following.rewards + torch.where(leaves, self._discount * self._beyond, 0.0)
            self._plays.append(
                _Step(
                    before.flatten(0, 1),
                    actions.flatten(),
                    rewards.flatten(),
                    following.observations.flatten(0, 1),
                    ends.flatten(),
                )
            )
            self._steps += 1
            is_over = ends | (self._steps >= self._horizon)
            self._steps[is_over] = 0
            self._observations = torch.where(
                is_over.unsqueeze(-1), self._begin(), following.observations
            )
        self._newest = _Step(*(torch.cat(columns) for columns in zip(*self._plays, strict=True)))

    def draw(self, size: int, rng: np.random.Generator) -> OfflineBatch:
        """Draw steps with replacement, once some are played; none of them is to be held on to."""
        rows = torch.from_numpy(rng.integers(len(self._newest.actions), size=size))
        drawn = _Step(*(column[rows] for column in self._newest))
        legal = torch.ones((size, self._num_actions), dtype=torch.bool)
        return OfflineBatch(
            observations=drawn.observations,
            actions=drawn.actions,
            rewards=drawn.rewards,
            next_observations=drawn.next_observations,
            terminated=drawn.terminated,
            discounts=torch.full((size,), self._discount),
            legal_actions=legal,
            next_legal_actions=legal,
            behaviour_probabilities=torch.full((size, self._num_actions), 1 / self._num_actions),
            weights=torch.ones(size),
            policy_weights=torch.zeros(size),
        )

    def _begin(self) -> Tensor:
        shape = self._dynamics.members, self._config.lanes
        return self._logged[torch.randint(len(self._logged), shape, generator=self._generator)]


class _Step(NamedTuple):
    """Of all lanes against all members, flat."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor


def practise(
    log: LoggedSteps,
    current: QNetwork,
    discount: float,
    q_limit: float,
    config: PracticeConfig,
    dynamics: DynamicsConfig,
    seed: int,
) -> Learned:
    """Learn a model of a log, and candidates in it that begin as the current policy.

    Args:
        log: N steps with vectors as observations, every action of which is legal.
        current: Where learning begins.
        discount: Per step.
        q_limit: The largest |Q| that rewards and discount allow.
        config: How candidates are learned.
        dynamics: How the model is.
        seed: Of all draws.
    """
    rng = np.random.default_rng(seed)
    episodes = whole_episodes(log)
    learning = config.learning
    practice = Practice(
        Dynamics(log, dynamics, seed),
        log,
        value_beyond(log, episodes, discount),
        horizon_of(log, episodes, discount),
        discount,
        config,
        seed,
    )
    for _ in range(config.plays_kept):
        practice.play(current)
    unit = returns_spread(log, discount)
    logged = LogReplay(log, 1, discount, learning.explored_share)
    learned = learn_candidates(
        current, practice, logged, learning, unit, q_limit, rng, tell=practice.play
    )
    # The one run has an alpha of 0.
    return Learned(
        [each._replace(alpha=None) for each in learned.candidates],
        {alpha or None: why for alpha, why in learned.diverged.items()},
    )
