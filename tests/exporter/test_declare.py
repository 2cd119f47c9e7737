from pathlib import Path

import pytest

from contract.declaration import (
    DeclarationError,
    PolicyDeclaration,
    read_declaration,
    write_declaration,
)
from contract.heuristics import LinearHeuristic
from exporter.declare import choose_declaration, complete_template
from exporter.profile import heuristic_returns
from tests.exporter.checkpoints import metadata
from training.environments import describe_environment

CONSTANT = '[heuristic]\nkind = "constant"\naction = 1\n'


def template(folder: Path, text: str = CONSTANT) -> Path:
    path = folder / "template.toml"
    path.write_text(text)
    return path


def known(environment_id: str, folder: Path) -> PolicyDeclaration:
    observation, num_actions = describe_environment(environment_id)
    trained = metadata(
        environment_id=environment_id, observation=observation, num_actions=num_actions
    )
    return choose_declaration(trained, folder, None)


@pytest.mark.parametrize(
    ("environment_id", "least"), [("CartPole-v1", 350), ("LunarLander-v3", 180)]
)
def test_the_heuristic_of_a_preset_is_worth_falling_back_to(
    environment_id: str, least: float, tmp_path: Path
) -> None:
    write_declaration(tmp_path, known(environment_id, tmp_path))
    heuristic = read_declaration(tmp_path).heuristic
    num_actions = describe_environment(environment_id).num_actions
    assert heuristic_returns(heuristic, environment_id, num_actions, 30, seed=1).mean() > least


def test_a_template_takes_what_it_leaves_out_from_the_checkpoint(tmp_path: Path) -> None:
    text = CONSTANT + '[actions]\nlabels = ["left", "right"]\nmasked = true\n'
    declared = complete_template(template(tmp_path, text), metadata())
    assert declared.observation == metadata().observation
    assert declared.actions.count == 2
    assert declared.actions.masked
    assert declared.actions.labels == ("left", "right")


def test_what_stands_is_kept_where_no_template_is_given(tmp_path: Path) -> None:
    standing = known("CartPole-v1", tmp_path).model_copy(
        update={"heuristic": LinearHeuristic(weights=((1, 2, 3, 4), (4, 3, 2, 1)))}
    )
    write_declaration(tmp_path, standing)
    assert choose_declaration(metadata(), tmp_path, None) == standing


def test_a_template_that_disagrees_with_what_stands_is_refused(tmp_path: Path) -> None:
    write_declaration(tmp_path, known("CartPole-v1", tmp_path))
    labelled = CONSTANT + '[actions]\nlabels = ["push_left", "push_right"]\n'
    with pytest.raises(DeclarationError, match="declares heuristic LinearHeuristic"):
        choose_declaration(metadata(), tmp_path, template(tmp_path, labelled))


def test_a_checkpoint_with_other_observations_is_refused(tmp_path: Path) -> None:
    write_declaration(tmp_path, known("CartPole-v1", tmp_path))
    other = metadata(observation=metadata().observation.model_copy(update={"dtype": "float64"}))
    with pytest.raises(DeclarationError, match=r"checkpoint's observation is .*float64"):
        choose_declaration(other, tmp_path, None)


def test_a_checkpoint_with_more_actions_is_refused(tmp_path: Path) -> None:
    write_declaration(tmp_path, known("CartPole-v1", tmp_path))
    with pytest.raises(DeclarationError, match="number of actions is 3"):
        choose_declaration(metadata(num_actions=3), tmp_path, None)


def test_an_environment_without_a_known_declaration_needs_one(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="Acrobot-v1: give one with --declaration"):
        choose_declaration(metadata(environment_id="Acrobot-v1"), tmp_path, None)


def test_a_python_heuristic_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    path = template(tmp_path, '[heuristic]\nkind = "python"\nfunction = "plant:choose"\n')
    with pytest.raises(DeclarationError, match="plant:choose is not allowed"):
        choose_declaration(metadata(), tmp_path, path)
    assert choose_declaration(metadata(), tmp_path, path, ["plant:choose"]) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "heuristic"), ("actions = 3\n" + CONSTANT, "actions"), ("=", "template.toml")],
)
def test_a_template_that_is_none_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=said):
        complete_template(template(tmp_path, text), metadata())
