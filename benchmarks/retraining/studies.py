"""Two studies: what offline learning makes of a log, and whether the gate ranks candidates."""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.retraining.logs import Mediocre, half_trained, log_of, snapshots, true_return
from retraining.dynamics import DynamicsConfig
from retraining.fitted_q import FittedQConfig
from retraining.gate import Decision, Gate, GateLimits
from retraining.importance import returns_spread
from retraining.practice import PracticeConfig, practise
from retraining.reading import split_episodes
from training.network import QNetwork
from training.offline import Candidate, OfflineConfig, choose, learn_candidates
from training.offline_learner import Method
from training.offline_log import LoggedSteps, LogReplay

EPSILON = 0.05
_PRACTICE_SEEDS: Final = 10_000
"""Of the models that candidates are learned in: the gate has others."""
_ONWARD = 3
"""How many times the steps of the log's policy online training goes on to."""


class Sizes(NamedTuple):
    """How much is done."""

    log_steps: int
    offline: OfflineConfig
    fitted: FittedQConfig
    limits: GateLimits
    evaluation_episodes: int
    judged: OfflineConfig
    """How candidates of the gate's study are learned: fewer, as many others join them."""
    online_snapshots: int
    """Others: of online training, that goes on from where the log's policy stopped."""
    corruptions: tuple[float, ...]
    """Strengths of the noise that each of both is corrupted with."""
    dynamics: DynamicsConfig = DynamicsConfig()
    practice: PracticeConfig = PracticeConfig()


class Learned(NamedTuple):
    """True returns of one seed."""

    behaviour: float
    by_method: dict[Method, float]
    """Of the chosen candidate; of a baseline, of its last step."""
    cpu_seconds: float
    """All methods, with what they were measured by."""


class Judged(NamedTuple):
    """A candidate whose true return is known, and what the gate made of it; undiscounted."""

    true_return: float
    current_return: float
    estimate: float
    decision: Decision
    lower_bound: float
    """Of the advantage over the current policy."""
    cpu_seconds: float
    """Its share of all that was judged with it."""


def learn_study(preset: str, seed: int, target_return: float, sizes: Sizes, out: Path) -> Learned:
    """One seed: a half-trained policy, its log, what each method makes of it."""
    start = time.process_time()
    policy = half_trained(preset, seed, target_return, out)
    log = log_of(policy, sizes.log_steps, EPSILON, seed)
    behaviour = true_return(policy.network, policy.config, sizes.evaluation_episodes, seed)
    returns: dict[Method, float] = {}
    methods: tuple[Method, ...] = ("conservative", "plain", "cloning")
    for method in methods:
        network = learn(policy, log, method, sizes, seed)
        returns[method] = true_return(network, policy.config, sizes.evaluation_episodes, seed)
    return Learned(behaviour, returns, time.process_time() - start)


def kept(path: Path, measure: Callable[[], Learned]) -> Learned:
    """What was measured before, else what is now: a study that was cut off loses one seed."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Learned)
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(found))
    return found


def gate_study(
    preset: str, seed: int, target_return: float, sizes: Sizes, out: Path
) -> list[Judged]:
    """Candidates of one log: snapshots of learning offline and online, and each with noise."""
    policy = half_trained(preset, seed, target_return, out)
    config, episodes = policy.config, sizes.evaluation_episodes
    log = log_of(policy, sizes.log_steps, EPSILON, seed)
    learned_from, held_out = split_episodes(log, 0.4, np.random.default_rng(seed))
    offline = sizes._replace(offline=sizes.judged)
    networks = [
        each.network for each in _candidates(policy, learned_from, "conservative", offline, seed)
    ]
    networks += snapshots(preset, seed, _ONWARD * policy.steps, sizes.online_snapshots, out)
    generator = torch.Generator().manual_seed(seed)
    networks += [
        _corrupted(network, strength, generator)
        for network in networks
        for strength in sizes.corruptions
    ]
    start = time.process_time()
    gate = Gate(
        held_out, policy.network, config.discount, sizes.fitted, sizes.dynamics, sizes.limits, seed
    )
    verdicts = gate.judge_all(networks)
    cpu_seconds = (time.process_time() - start) / len(networks)
    current = true_return(policy.network, config, episodes, seed)
    unit = config.reward_transform.scale
    return [
        Judged(
            true_return(network, config, episodes, seed),
            current,
            verdict.evidence.candidate_estimate / unit,
            verdict.decision,
            verdict.evidence.advantage_lower_bound / unit,
            cpu_seconds,
        )
        for network, verdict in zip(networks, verdicts, strict=True)
    ]


def rank_correlation(judged: Sequence[Judged]) -> float:
    """Spearman's, between estimates and true returns; equal ones share their mean rank."""
    first = _ranks(np.array([each.estimate for each in judged]))
    second = _ranks(np.array([each.true_return for each in judged]))
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def regret(judged: Sequence[Judged]) -> float:
    """True return lost by taking the candidate with the highest estimate."""
    taken = max(judged, key=lambda each: each.estimate)
    return max(each.true_return for each in judged) - taken.true_return


def learn(policy: Mediocre, log: LoggedSteps, method: Method, sizes: Sizes, seed: int) -> QNetwork:
    """What a method makes of a log: of the conservative one's candidates what the gate chooses."""
    candidates = _candidates(policy, log, method, sizes, seed)
    if not candidates:
        return policy.network
    if method != "conservative":
        return candidates[-1].network
    gate = Gate(
        log,
        policy.network,
        policy.config.discount,
        sizes.fitted,
        sizes.dynamics,
        sizes.limits,
        seed,
    )
    if gate.plays:
        practised = practise(
            log,
            policy.network,
            policy.config.discount,
            _q_limit(policy, log),
            sizes.practice,
            sizes.dynamics,
            seed=_PRACTICE_SEEDS + seed,
        )
        candidates = candidates + practised.candidates
    bounds = gate.lower_bounds([each.network for each in candidates])
    if max(bounds) < 0:
        # Nothing is better for sure: nothing is shipped.
        return policy.network
    return choose(candidates, bounds).candidate.network


def _candidates(
    policy: Mediocre, log: LoggedSteps, method: Method, sizes: Sizes, seed: int
) -> list[Candidate]:
    offline = sizes.offline.model_copy(update={"method": method})
    discount = policy.config.discount
    # A baseline sees the log as it is.
    share = offline.explored_share if method == "conservative" else 0.0
    replay = LogReplay(log, offline.n_step, discount, share)
    q_limit = _q_limit(policy, log)
    if method == "plain":
        # The control is shown as it is: what would stop it is switched off.
        offline = offline.model_copy(update={"q_limit_factor": 1e6})
    rng = np.random.default_rng(seed)
    unit = returns_spread(log, discount)
    return learn_candidates(policy.network, replay, None, offline, unit, q_limit, rng).candidates


def _q_limit(policy: Mediocre, log: LoggedSteps) -> float:
    return float(np.abs(log.rewards).max()) / (1 - policy.config.discount)


@torch.no_grad()
def _corrupted(network: QNetwork, strength: float, generator: torch.Generator) -> QNetwork:
    """With noise on each weight, of `strength` times the layer's own spread."""
    corrupted = copy.deepcopy(network)
    for value in corrupted.parameters():
        noise = torch.randn(value.shape, generator=generator)
        value.add_(noise * strength * value.std(correction=0))
    return corrupted


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], np.float64)
