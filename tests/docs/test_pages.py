"""No page slips: each is run by a test of its own, and what cannot be run is listed here."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from contract.declaration import PolicyDeclaration
from tests import builders
from tests.docs.pages import ROOT, blocks

DOCS: Final = ROOT / "docs"
TESTS: Final = ROOT / "tests"
WRITTEN: Final = sorted((*DOCS.rglob("*.md"), ROOT / "README.md"))
GENERATED: Final = set((DOCS / "reference").iterdir())
WITHOUT_COMMANDS: Final = {DOCS / "decisions.md", DOCS / "README.md"}
NEEDS_COMPOSE: Final = DOCS / "runbook.md"
"""Its commands are for the stack of docker-compose.yml."""
TESTED: Final = [
    path for path in WRITTEN if path not in GENERATED | WITHOUT_COMMANDS | {NEEDS_COMPOSE}
]
LANGUAGES: Final = {"sh", "python", "toml", "conf", "yaml", "json", "text", "console"}
NOT_RUN: Final = {
    # By tests/test_ring.py, and by whoever runs this.
    "README.md": ["make run", "make test"],
    # By tests/deploy/compose_stack.py, in other words.
    "docs/how-to/compose.md": [
        "$ docker compose up --build --wait",
        "$ docker compose run --rm --no-deps --entrypoint cat setup /secrets/operator.key"
        " > operator.key",
        "$ docker compose run --rm --no-deps --entrypoint cat setup /secrets/agent.key > agent.key",
        "$ DQN_SERVER=http://127.0.0.1:8002 DQN_KEY_FILE=operator.key dqn promote cartpole 1"
        ' --first --why "the first version"',
    ],
    # There is no engine of containers in a test.
    "docs/stories/redis-died.md": [
        "$ DQN_SPOOL_MAX_BYTES=42949672960 docker compose up -d service"
    ],
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", TESTED, ids=name_of)
def test_a_page_with_commands_is_run_by_a_test(page: Path) -> None:
    has_commands = any(block.language in ("sh", "python") for block in blocks(page))
    tests = (path for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    is_run = any(f'"{page.name}"' in path.read_text(encoding="utf-8") for path in tests)
    assert is_run or not has_commands


@pytest.mark.parametrize("page", TESTED, ids=name_of)
def test_what_is_not_run_is_listed(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    commands = [
        line
        for block in blocks(page)
        if block.language == "console"
        for line in block.content.splitlines()
    ]
    assert commands == NOT_RUN.get(name_of(page), [])


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(anchor_of, headings), target


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "contract|training|retraining|deploy|dashboards|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_declared_heuristic_is_one() -> None:
    kinds = set()
    for block in blocks(DOCS / "how-to" / "heuristics.md"):
        if block.language == "toml":
            told = tomllib.loads(block.content)
            declared = builders.declaration().model_dump() | told
            kinds.add(PolicyDeclaration.model_validate(declared).heuristic.kind)
    assert kinds == {"constant", "random", "linear", "table", "python"}


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")
