"""Every command and every example of the how-to pages, run as a reader would."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from contract.declaration import PolicyDeclaration
from tests import builders
from tests.docs.pages import ROOT, blocks, run
from tests.exporter.adoption import libraries
from tests.service.running import promote

HOW_TO: Final = ROOT / "docs" / "how-to"
PAGES: Final = sorted(HOW_TO.glob("*.md"))
TRIED: Final = {"adopt.md", "client.md", "heuristics.md", "keys.md", "kubernetes.md"}
RUN: Final = {"sh", "python", "toml"}
SHOWN: Final = {"json"}

# A page starts several processes one after another, each with libraries of its own to load.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `dqn run` leaves, made quickly."""
    builders.write_policy(tmp_path / "data" / "policies")
    promote(tmp_path / "data")
    return tmp_path


def test_every_page_is_tried_and_every_block_is_run_or_only_shown() -> None:
    assert {page.name for page in PAGES} == TRIED
    for page in PAGES:
        assert {block.language for block in blocks(page)} <= RUN | SHOWN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_flags_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:deploy|dashboards|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_declared_heuristic_is_one() -> None:
    kinds = set()
    for block in blocks(HOW_TO / "heuristics.md"):
        if block.language == "toml":
            told = tomllib.loads(block.content)
            declared = builders.declaration().model_dump() | told
            kinds.add(PolicyDeclaration.model_validate(declared).heuristic.kind)
    assert kinds == {"constant", "random", "linear", "table", "python"}


def test_heuristics_are_tried_as_the_page_says(folder: Path) -> None:
    said = run(HOW_TO / "heuristics.md", folder)
    assert '"reason":"pinned"' in said
    assert "}424\n" in said


def test_keys_open_what_the_page_says(folder: Path) -> None:
    said = run(HOW_TO / "keys.md", folder)
    assert "403\n" in said
    assert '"who":"alice"' in said
    assert '"source":"model"' in said
    assert "0 faults" in said
    assert "agents-2" in (folder / "data" / "keys").read_text(encoding="utf-8")
    assert "agents " not in (folder / "data" / "keys").read_text(encoding="utf-8")


def test_the_client_s_examples_run_against_a_real_server(folder: Path) -> None:
    said = run(HOW_TO / "client.md", folder)
    assert " model\n" in said


def test_the_kubernetes_page_makes_secrets_and_manifests(folder: Path) -> None:
    run(HOW_TO / "kubernetes.md", folder)
    assert "kind: Secret" in (folder / "dqn-keys.yaml").read_text(encoding="utf-8")
    assert "kind: StatefulSet" in (folder / "production.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_policies_of_others_are_adopted_and_served_as_the_page_says(tmp_path: Path) -> None:
    libraries.install()
    python = libraries.ENVIRONMENT / "bin" / "python"
    said = run(HOW_TO / "adopt.md", tmp_path, {"stable-baselines3": python})
    assert '"policy":"cartpole"' in said
    assert '"source":"model"' in said
    adopted = {path.parent.name for path in (tmp_path / "data" / "policies").glob("*/policy.toml")}
    assert adopted == {"cartpole", "normalised", "cleanrl", "onnx"}
