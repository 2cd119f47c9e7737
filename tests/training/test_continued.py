import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from contract.declaration import ObservationSpec
from tests.training.builders import numbered_transitions, training_config
from training.checkpoint import CheckpointError, read_checkpoint
from training.config import TrainingConfig
from training.elasticity import Elasticity
from training.experience import Experience
from training.online import resume, train
from training.regularisation import elastic_penalty
from training.run import TrainingRun

OBSERVATION = ObservationSpec(shape=(2,), dtype="float32")


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "earlier"
    train(training_config(out, final_epsilon=0.07), quiet())
    return out


def continued(earlier: Path, out: Path, *flags: str) -> TrainingConfig:
    return TrainingConfig.from_arguments(
        ["--continue-from", str(earlier), "--out", str(out), *flags]
    )


def parameters(run: TrainingRun) -> Tensor:
    return torch.cat([each.detach().flatten() for each in run.learner.online_network.parameters()])


def test_a_run_has_the_settings_of_the_one_that_it_continues_unless_told(
    earlier: Path, tmp_path: Path
) -> None:
    config = continued(earlier, tmp_path, "--batch-size", "24")
    assert (config.hidden_sizes, config.batch_size, config.seed) == ((16, 16), 24, 3)
    assert (config.out, config.continue_from) == (tmp_path, earlier)
    assert config.initial_epsilon == config.final_epsilon == 0.07


def test_a_run_begins_with_the_best_network_of_the_earlier_one_and_keeps_its_normalisation(
    earlier: Path, tmp_path: Path
) -> None:
    best = read_checkpoint(earlier / "best").network
    run = TrainingRun(continued(earlier, tmp_path))
    for name, tensor in best.state_dict().items():
        assert torch.equal(run.learner.online_network.state_dict()[name], tensor), name
        assert torch.equal(run.learner.target_network.state_dict()[name], tensor), name
    while run.steps < 320:
        run.advance()
    assert run.learner.num_updates > 0
    normalisation = run.learner.online_network.normalisation
    assert normalisation is not None
    assert best.normalisation is not None
    assert torch.equal(normalisation.mean, best.normalisation.mean)


def test_a_share_of_each_batch_is_rehearsed_and_leaves_priorities_alone(tmp_path: Path) -> None:
    old = Experience(training_config(tmp_path), OBSERVATION)
    old.add([numbered_transitions(1_000, 4) for _ in range(10)])
    config = training_config(
        tmp_path, continue_from=tmp_path, rehearsed_share=0.25, prioritised=True
    )
    experience = Experience(config, OBSERVATION, old)
    experience.add([numbered_transitions(4 * step, 4) for step in range(10)])
    rng = np.random.default_rng(0)
    drawn = experience.draw(rng, 0.5)
    assert len(drawn.slots) == 12
    assert (drawn.batch.rewards >= 1_000).tolist() == [False] * 12 + [True] * 4
    # Only the rehearsed rows were wrong: nothing is drawn more often for it.
    experience.learned(drawn.slots, torch.cat([torch.ones(12), torch.full((4,), 1e6)]))
    assert len(set(experience.draw(rng, 0.5).slots.tolist())) > 4


def test_elasticity_pulls_as_the_gradient_of_its_penalty_does() -> None:
    anchors, fisher = torch.tensor([1.0, 4.0]), torch.tensor([10.0, 0.1])
    weights = torch.tensor([3.0, 1.0], requires_grad=True)
    penalty = elastic_penalty({"w": weights}, {"w": anchors}, {"w": fisher}, strength=6.0)
    (gradient,) = torch.autograd.grad(penalty, weights)
    torch.testing.assert_close(Elasticity(anchors, 6.0 * fisher).pull(weights.detach()), gradient)


def test_the_firmer_the_hold_the_nearer_to_the_earlier_policy(
    earlier: Path, tmp_path: Path
) -> None:
    distances = []
    for strength in ("0", "1e4"):
        run = TrainingRun(continued(earlier, tmp_path, "--elastic-strength", strength))
        before = parameters(run)
        while not run.has_finished:
            run.advance()
        distances.append(float((parameters(run) - before).norm()))
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--hidden-sizes", "16"], r"another network: hidden_sizes \(16, 16\) became \(16,\)"),
        (["--reward-scale", "0.5"], r"another unit of Q-values: scale 1.0 became 0.5"),
        (["--discount", "0.9"], r"another unit of Q-values: discount 0.99 became 0.9"),
    ],
)
def test_what_the_earlier_run_cannot_be_continued_with_is_named(
    earlier: Path, tmp_path: Path, flags: list[str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        TrainingRun(continued(earlier, tmp_path, *flags))


def test_there_must_be_a_run_to_continue_and_to_hold_on_to(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        continued(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="--continue-from"):
        training_config(tmp_path, elastic_strength=1.0)


def test_a_continued_run_can_be_resumed_bit_for_bit(earlier: Path, tmp_path: Path) -> None:
    flags = ("--rehearsed-share", "0.5", "--elastic-strength", "10", "--prioritised")
    train(continued(earlier, tmp_path / "whole", *flags), quiet())
    answers = iter([False] * 30 + [True])
    train(continued(earlier, tmp_path / "parts", *flags), quiet(), lambda: next(answers))
    resume(tmp_path / "parts", quiet())
    states: list[dict[str, Any]] = [
        read_checkpoint(tmp_path / name / "last").network.state_dict()
        for name in ("whole", "parts")
    ]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
