"""`dqn adopt` as a whole: what must be stated, what is measured, what is left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contract.bundle import read_bundle, versions_in
from contract.declaration import DeclarationError, read_declaration
from contract.heuristics import ConstantHeuristic
from exporter.adopt import main
from exporter.adoption.source import AdoptionError
from tests.exporter.adoption.adopting import adopt_file, manifest_of, served_q_values
from tests.exporter.adoption.sources import (
    onnx_network,
    perceptron,
    vectors,
    write_cleanrl,
    write_npz,
    write_sb3,
)


def cleanrl(folder: Path) -> Path:
    return write_cleanrl(folder / "dqn.cleanrl_model", perceptron())


def cartpole_network() -> nn.Sequential:
    """Pushes to the side that the pole falls to: its episodes are long."""
    sides, q_values = nn.Linear(4, 2), nn.Linear(2, 2)
    with torch.no_grad():
        sides.bias.zero_()
        q_values.bias.zero_()
        sides.weight.copy_(torch.tensor([[0.0, 0.0, -1.0, -2.0], [0.0, 0.0, 1.0, 2.0]]))
        q_values.weight.copy_(torch.eye(2))
    return nn.Sequential(sides, nn.ReLU(), q_values)


def test_a_policy_without_a_heuristic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match="heuristic"):
        adopt_file(cleanrl(tmp_path), discount=0.99, heuristic=None)


def test_a_simple_heuristic_is_also_what_answers_last(tmp_path: Path) -> None:
    directory = adopt_file(cleanrl(tmp_path), discount=0.99, heuristic="constant:1")
    declaration = read_declaration(directory.parent)
    assert declaration.heuristic == ConstantHeuristic(action=1)
    assert declaration.constant_action == 1


def test_an_action_that_does_not_exist_is_no_heuristic(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="constant_action 3"):
        adopt_file(cleanrl(tmp_path), discount=0.99, heuristic="constant:3")


def test_the_next_adoption_is_the_next_version_under_the_same_declaration(tmp_path: Path) -> None:
    adopt_file(cleanrl(tmp_path), discount=0.99)
    second = adopt_file(cleanrl(tmp_path), discount=0.99, heuristic=None)
    assert second.name == "2"
    with pytest.raises(DeclarationError, match=r"declares heuristic .*constant"):
        adopt_file(cleanrl(tmp_path), discount=0.99, heuristic="random")
    assert versions_in(second.parent) == [1, 2]


def test_a_template_may_repeat_a_part_of_what_stands(tmp_path: Path) -> None:
    adopt_file(cleanrl(tmp_path), discount=0.99)
    template = tmp_path / "template.toml"
    template.write_text("[observation]\nshape = [4]\n", encoding="utf-8")
    second = adopt_file(cleanrl(tmp_path), discount=0.99, heuristic=None, declaration=template)
    assert second.name == "2"
    template.write_text("[observation]\nfirst_frames = 'zeros'\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="first_frames"):
        adopt_file(cleanrl(tmp_path), discount=0.99, heuristic=None, declaration=template)


def test_without_anything_to_measure_the_card_says_what_is_not_armed(tmp_path: Path) -> None:
    directory = adopt_file(cleanrl(tmp_path), discount=0.99)
    manifest = manifest_of(directory)
    assert manifest.profile is None
    assert manifest.floor is None
    assert manifest.parity is not None
    assert "not armed" in (directory / "card.md").read_text(encoding="utf-8")


def test_an_environment_gives_bounds_profile_and_floor(tmp_path: Path) -> None:
    source = write_sb3(tmp_path / "model.zip", cartpole_network())
    directory = adopt_file(
        source,
        vecnormalize="none",
        environment="CartPole-v1",
        heuristic="constant:0",
        profile_episodes=5,
        floor_episodes=20,
    )
    manifest = manifest_of(directory)
    assert manifest.profile is not None
    assert manifest.profile.episode_return.mean > 200
    assert manifest.profile.episode_return.count == 5
    assert manifest.floor == pytest.approx(9.4, abs=0.5)
    assert read_declaration(directory.parent).observation.high is not None
    assert "not armed" not in (directory / "card.md").read_text(encoding="utf-8")


def test_an_environment_of_other_observations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match=r"\[2\].*\[4\]"):
        adopt_file(cleanrl(tmp_path), discount=0.99, environment="MountainCar-v0")


def test_samples_with_rewards_make_a_profile_of_their_whole_episodes(tmp_path: Path) -> None:
    ends = np.zeros(20, dtype=np.bool_)
    ends[[6, 13]] = True
    samples = write_npz(
        tmp_path / "samples.npz",
        observations=vectors(20),
        rewards=np.r_[np.full(7, 1.0), np.full(7, 3.0), np.full(6, 100.0)],
        terminated=ends,
        truncated=np.zeros(20, dtype=np.bool_),
    )
    directory = adopt_file(cleanrl(tmp_path), discount=0.99, samples=samples)
    profile = manifest_of(directory).profile
    assert profile is not None
    # 7 * 1 and 7 * 3; the last six steps are an episode that is not whole.
    assert (profile.episode_return.minimum, profile.episode_return.maximum) == (7.0, 21.0)
    assert profile.episode_length.mean == 7.0
    assert profile.num_observations == 14
    chosen = served_q_values(directory, vectors(20))[:14].argmax(axis=1)
    frequencies = np.bincount(chosen, minlength=3) / 14
    np.testing.assert_allclose(profile.action_frequencies, frequencies)


def test_samples_without_rewards_serve_parity_alone(tmp_path: Path) -> None:
    samples = write_npz(tmp_path / "samples.npz", observations=vectors(3))
    directory = adopt_file(cleanrl(tmp_path), discount=0.99, samples=samples)
    assert manifest_of(directory).profile is None
    golden = read_bundle(directory).golden.observations
    assert {row.tobytes() for row in golden} == {row.tobytes() for row in vectors(3)}


@pytest.mark.parametrize(
    "changed",
    [
        {"observations": np.zeros((20, 5))},
        {"observations": np.full((20, 4), np.nan)},
        {"observations": np.zeros((20, 4), np.complex64)},
        {"rewards": np.zeros(19)},
        {"terminated": np.zeros(20, dtype=np.bool_)},
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    right = {
        "observations": vectors(20),
        "rewards": np.ones(20),
        "terminated": np.ones(20, dtype=np.bool_),
        "truncated": np.zeros(20, dtype=np.bool_),
    }
    samples = write_npz(tmp_path / "samples.npz", **(right | changed))
    with pytest.raises(AdoptionError, match=r"samples\.npz"):
        adopt_file(cleanrl(tmp_path), discount=0.99, samples=samples)


def test_the_command_adopts_through_a_child_and_says_where_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "policy.onnx"
    source.write_bytes(onnx_network(perceptron()))
    flags = ["--repository", str(tmp_path / "policies"), "--policy", "mine"]
    flags += ["--heuristic", "constant:0", "--discount", "0.99"]
    assert main([str(source), *flags]) == 0
    assert capsys.readouterr().out == f"adopted mine to {tmp_path / 'policies' / 'mine' / '1'}\n"


def test_the_command_says_why_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.onnx").write_bytes(b"no model")
    flags = ["--repository", str(tmp_path / "policies"), "--policy", "mine"]
    assert main([str(tmp_path / "policy.onnx"), *flags]) == 1
    assert "not an ONNX model" in capsys.readouterr().err
    assert main([str(tmp_path / "missing.onnx"), *flags]) == 1
    assert main([str(tmp_path / "policy.onnx"), *flags, "--heuristic", "do the right thing"]) == 2
