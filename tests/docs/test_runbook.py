"""Whoever is woken types what the runbook says: its commands are held to what takes them."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from pydantic_settings import CliApp

from cli.__main__ import main
from docs.generate.settings import VERBS_WITH_SETTINGS
from recorder.settings import RecorderSettings
from service.app import create_app
from service.settings import ServiceSettings
from tests.dashboards.files import exported_series, read_yaml
from tests.docs.pages import ROOT, blocks

RUNBOOK: Final = ROOT / "docs" / "runbook.md"
TEXT: Final = RUNBOOK.read_text(encoding="utf-8")
COMPOSE: Final = ROOT / "docker-compose.yml"
OF_ALL_SERVICES: Final = {"ps", "logs", "up", "restart", "pull"}
"""Verbs of compose that take any number of services; the others take one and then a command."""
WITH_VALUE: Final = {"--tail", "--since", "--entrypoint"}


class Parsed(Exception):  # noqa: N818
    """The command line was taken; what it asks for is not done."""


def commands() -> Iterator[list[str]]:
    """The words of every command, without comments; what `$(…)` runs is a command too."""
    for block in blocks(RUNBOOK):
        assert block.language == "sh"
        for line in block.content.splitlines():
            lexer = shlex.shlex(line.replace("$(", "; "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("();|&"):
                    yield words
                    words = []
                else:
                    words.append(word)
            yield words


def typed(program: str) -> list[Any]:
    """Commands of one program: variables set before it, and what follows its name."""
    found = []
    for words in commands():
        names = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        if names[:1] == [program]:
            told = dict(word.split("=", 1) for word in words[: words.index(program)])
            found.append(pytest.param(told, names[1:], id=shlex.join(words)))
    return found


@pytest.mark.parametrize(("variables", "words"), typed("dqn"))
def test_a_verb_takes_its_flags(
    variables: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verb, *flags = words
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    model: Any = VERBS_WITH_SETTINGS.get(verb)
    if model is not None:
        assert model.load(flags) if hasattr(model, "load") else CliApp.run(model, cli_args=flags)
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *told: Any) -> None:
        parse(self, *told)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    with pytest.raises(Parsed):
        main(words)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the service says that it takes."""
    document: dict[str, Any] = create_app(
        ServiceSettings(data=tmp_path_factory.mktemp("data"))
    ).openapi()
    return document


@pytest.mark.parametrize(("variables", "words"), typed("curl"))
def test_a_call_is_one_that_the_service_takes(
    api: dict[str, Any], variables: dict[str, str], words: list[str]
) -> None:
    (url,) = (word for word in words if word.startswith("$DQN/"))
    path = url.removeprefix("$DQN").replace("POLICY", "{policy}")
    assert ("Authorization: Bearer $KEY" in words) == path.startswith("/v1/")
    if "-d" not in words:
        assert "get" in api["paths"][path]
        return
    taken = api["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = api["components"]["schemas"][taken["$ref"].rpartition("/")[2]]
    body = msgspec.json.decode(words[words.index("-d") + 1])
    assert set(schema.get("required", ())) <= set(body) <= set(schema["properties"])
    assert len(body["why"]) > 3


@pytest.mark.parametrize(("variables", "words"), typed("docker"))
def test_compose_has_what_is_named(variables: dict[str, str], words: list[str]) -> None:
    read = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    assert set(variables) <= read
    if words[0] != "compose":
        assert words[0] == "stats"
        return
    _, verb, *rest = words
    named = [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if not word.startswith("-") and before not in WITH_VALUE
    ]
    named = named if verb in OF_ALL_SERVICES else named[:1]
    assert named
    assert set(named) <= set(read_yaml(COMPOSE)["services"])


def test_every_metric_that_is_named_is_exported() -> None:
    named = set(re.findall(r"`(dqn_\w+)`", TEXT))
    assert named
    assert named <= exported_series()


def test_every_setting_that_is_named_is_one() -> None:
    named = set(re.findall(r"`(\w+_(?:bytes|seconds|share|rows))`", TEXT))
    assert {"spool_max_bytes", "hang_seconds"} <= named
    assert named <= {*ServiceSettings.model_fields, *RecorderSettings.model_fields}


def test_the_log_has_what_is_looked_for_in_it() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("service", "recorder")
        for path in Path(ROOT / folder).rglob("*.py")
    )
    said = set(re.findall(r'_log\.\w+\(\s*"(\w+)"', code))
    named = {*re.findall(r"log[,:] `(\w+)`", TEXT), *re.findall(r"grep (\w+_\w+)", TEXT)}
    assert {"redis_down", "worker_died"} <= named
    assert named <= said
