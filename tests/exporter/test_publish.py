from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.bundle import BundleError, Golden, read_bundle
from contract.declaration import PolicyDeclaration, read_declaration, write_declaration
from exporter.graph import ServingGraph, export_graph
from exporter.opset import OPSET
from exporter.publish import publish
from service.inference.proof import prove
from tests.builders import declaration, manifest
from tests.exporter.checkpoints import network, observations


@dataclass(frozen=True)
class Version:
    """Everything that is published, small and right; tests change one thing."""

    golden: Golden
    model: bytes
    declared: PolicyDeclaration


@cache
def right() -> Version:
    graph = ServingGraph(network(hidden_sizes=(8,)), masked=False)
    observed = observations(5)
    return Version(
        golden=Golden(observed, graph.decide(observed).q_values),
        model=export_graph(graph, declaration().observation),
        declared=declaration(),
    )


def publish_small(repository: Path, number: int = 1, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "declaration": right().declared,
        "manifest": manifest(policy="pole", version=number, opset=OPSET),
        "model": right().model,
        "golden": right().golden,
        "card": "# Card\n",
        "triton_config": f"config {number}\n",
    }
    return publish(repository / "pole", **(fields | changes))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def wrong_golden() -> Golden:
    golden = right().golden
    return Golden(golden.observations, golden.q_values + np.float32(0.01))


def test_a_published_version_proves_and_nothing_else_is_left(tmp_path: Path) -> None:
    directory = publish_small(tmp_path / "new" / "repository")
    assert directory == tmp_path / "new" / "repository" / "pole" / "1"
    prove(read_bundle(directory))
    assert set(content(directory.parent)) == {
        "1",
        "1/card.md",
        "1/golden.npz",
        "1/manifest.json",
        "1/model.onnx",
        "config.pbtxt",
        "policy.toml",
    }
    assert read_declaration(directory.parent) == right().declared


def test_a_second_version_leaves_the_first_and_replaces_the_configuration(tmp_path: Path) -> None:
    first = content(publish_small(tmp_path))
    publish_small(tmp_path, 2)
    assert content(tmp_path / "pole" / "1") == first
    assert (tmp_path / "pole" / "config.pbtxt").read_text() == "config 2\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"golden": wrong_golden}, "golden batch"),
        ({"model": lambda: b"not a model"}, "not a valid model"),
        ({"declaration": lambda: declaration(observation={"shape": (2, 2)})}, "declares"),
    ],
)
def test_a_bundle_that_may_not_serve_leaves_not_even_a_folder(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=said):
        publish_small(tmp_path / "repository", **{name: make() for name, make in changes.items()})
    assert content(tmp_path) == {}


def test_a_second_version_that_may_not_serve_changes_nothing(tmp_path: Path) -> None:
    publish_small(tmp_path)
    before = content(tmp_path)
    with pytest.raises(BundleError):
        publish_small(tmp_path, 2, golden=wrong_golden())
    assert content(tmp_path) == before


def test_a_number_that_was_taken_meanwhile_undoes_everything(tmp_path: Path) -> None:
    publish_small(tmp_path)
    (tmp_path / "pole" / "2").write_text("in the way of the very last step")
    before = content(tmp_path)
    with pytest.raises(BundleError, match="pole/2: not written"):
        publish_small(tmp_path, 2)
    assert content(tmp_path) == before


def test_a_configuration_that_cannot_be_written_takes_the_declaration_back(tmp_path: Path) -> None:
    (tmp_path / "pole" / "config.pbtxt").mkdir(parents=True)
    with pytest.raises(OSError, match=r"config\.pbtxt"):
        publish_small(tmp_path)
    assert set(content(tmp_path)) == {"pole", "pole/config.pbtxt"}


def test_a_declaration_that_stands_is_not_rewritten(tmp_path: Path) -> None:
    (tmp_path / "pole").mkdir()
    write_declaration(tmp_path / "pole", declaration(constant_action=1))
    before = (tmp_path / "pole" / "policy.toml").read_bytes()
    publish_small(tmp_path)
    assert (tmp_path / "pole" / "policy.toml").read_bytes() == before
