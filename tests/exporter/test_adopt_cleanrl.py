"""Checkpoints laid out as CleanRL's: tensors and nothing else, so the rest must be stated."""

from pathlib import Path

import numpy as np
import pytest
import torch

from contract.declaration import read_declaration
from exporter.adoption.source import AdoptionError
from tests.exporter.adoption.adopting import adopt_file, manifest_of, served_q_values
from tests.exporter.adoption.sources import (
    perceptron,
    picture_network,
    pictures,
    q_values_of,
    saved,
    vectors,
    write_cleanrl,
)

DECLARATION = """
[observation]
shape = [4, 36, 40]
[heuristic]
kind = "random"
"""


def test_a_perceptron_answers_as_the_checkpoint_does(tmp_path: Path) -> None:
    source = write_cleanrl(tmp_path / "dqn.cleanrl_model", perceptron())
    directory = adopt_file(source, discount=0.9)
    expected = q_values_of(perceptron(), vectors())
    np.testing.assert_allclose(served_q_values(directory, vectors()), expected, atol=1e-5)
    assert manifest_of(directory).discount == 0.9
    assert manifest_of(directory).lineage.config["kind"] == "cleanrl"


def test_the_discount_must_be_said(tmp_path: Path) -> None:
    source = write_cleanrl(tmp_path / "dqn.cleanrl_model", perceptron())
    with pytest.raises(AdoptionError, match="--discount"):
        adopt_file(source)


def test_pictures_are_as_large_as_declared(tmp_path: Path) -> None:
    network = picture_network()
    source = write_cleanrl(tmp_path / "dqn_atari.cleanrl_model", network)
    told = {"image_layout": "grey", "frame_stack": 4, "discount": 0.99}
    with pytest.raises(AdoptionError, match="how large"):
        adopt_file(source, **told)
    template = tmp_path / "policy.toml"
    template.write_text(DECLARATION, encoding="utf-8")
    directory = adopt_file(source, declaration=template, heuristic=None, **told)
    spec = read_declaration(directory.parent).observation
    assert (spec.dtype, spec.frame_stack, spec.first_frames) == ("uint8", 4, "repeat")
    raw = pictures(4, 36, 40)
    expected = q_values_of(network, raw / 255)
    np.testing.assert_allclose(served_q_values(directory, raw), expected, atol=1e-5)


def test_pictures_of_a_size_that_the_layers_do_not_take_are_refused(tmp_path: Path) -> None:
    source = write_cleanrl(tmp_path / "dqn_atari.cleanrl_model", picture_network())
    template = tmp_path / "policy.toml"
    template.write_text(DECLARATION.replace("36, 40", "84, 84"), encoding="utf-8")
    with pytest.raises(AdoptionError, match=r"does not take observations of \[4, 84, 84\]"):
        adopt_file(
            source,
            declaration=template,
            heuristic=None,
            image_layout="grey",
            frame_stack=4,
            discount=0.99,
        )


def test_a_distribution_over_returns_is_refused_with_the_way_out(tmp_path: Path) -> None:
    # c51.py registers its atoms beside the layers.
    state = {f"network.{name}": tensor for name, tensor in perceptron().state_dict().items()}
    source = tmp_path / "c51.cleanrl_model"
    source.write_bytes(saved(state | {"atoms": torch.zeros(51)}))
    with pytest.raises(AdoptionError, match="atoms"):
        adopt_file(source, discount=0.99)


@pytest.mark.parametrize(
    "state",
    [
        {"network.0.weight": torch.zeros(3, 4)},
        {"network.0.weight": torch.zeros(3, 4), "network.0.bias": torch.zeros(2)},
        {"network.0.weight": torch.zeros(3, 4, 2), "network.0.bias": torch.zeros(3)},
        {"network.0.weight": 3, "network.0.bias": 4},
        {},
    ],
)
def test_tensors_that_make_no_network_are_refused(tmp_path: Path, state: dict[str, object]) -> None:
    source = tmp_path / "dqn.cleanrl_model"
    source.write_bytes(saved(state))
    with pytest.raises(AdoptionError):
        adopt_file(source, discount=0.99)
