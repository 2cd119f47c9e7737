"""The images' recipes, and the serving image's environment made for real, without an engine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from contract.ledger import LEDGER_FILE, Entry, FileLedger
from tests import builders
from tests.deploy.rendering import ROOT

DEPLOY: Final = ROOT / "deploy"
RECIPES: Final = ("Dockerfile", "training.Dockerfile")


def recipe(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def requirements(*extras: str) -> list[str]:
    command = [sys.executable, str(DEPLOY / "requirements.py"), str(ROOT / "pyproject.toml")]
    told = subprocess.run([*command, *extras], check=True, capture_output=True, text=True).stdout
    return told.splitlines()


def packages_of_serving() -> list[str]:
    return re.findall(r"^COPY (\w+) \1$", recipe("Dockerfile"), flags=re.MULTILINE)


@pytest.mark.parametrize("name", RECIPES)
def test_an_image_s_last_stage_is_nobody_s_and_has_no_compiler(name: str) -> None:
    last = recipe(name).rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in last
    assert "apt-get" not in last
    assert "pip install" not in last
    assert "ENTRYPOINT" in last


@pytest.mark.parametrize("name", RECIPES)
def test_what_an_image_copies_is_not_ignored(name: str) -> None:
    ignored = recipe(f"{name}.dockerignore").splitlines()
    assert ignored[0] == "*"
    for source in re.findall(r"^COPY ((?:\w[\w./]* )+)\S+$", recipe(name), flags=re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists()
            assert any(f"!{part}" in ignored for part in (path, path.split("/")[0])), path


def test_the_serving_image_has_no_torch_and_no_columns() -> None:
    (extras,) = re.findall(r'^ARG EXTRAS="([^"]*)"$', recipe("Dockerfile"), flags=re.MULTILINE)
    wanted = " ".join(requirements(*extras.split()))
    for heavy in ("torch", "gymnasium", "pyarrow", "matplotlib", "ray"):
        assert heavy not in wanted
    assert "onnxruntime" in wanted
    assert "httpx" in wanted


def test_the_training_image_has_one_pinned_torch() -> None:
    found = re.findall(r'EXTRAS="([^"]*)"', recipe("training.Dockerfile"))
    wanted = requirements(*found[0].split())
    assert [each for each in wanted if each.startswith("torch==")] == ["torch==2.13.0"]
    assert not [each for each in wanted if each.startswith("dqn-serving")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_what_the_serving_image_installs_a_bundle_is_proven(tmp_path: Path) -> None:
    environment = ROOT / ".bench" / "serving-image"
    shutil.rmtree(environment, ignore_errors=True)
    uv = (sys.executable, "-m", "uv", "--quiet")
    subprocess.run([*uv, "venv", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    wanted = requirements("service", "client")
    subprocess.run([*uv, "pip", "install", "--python", python, *wanted], check=True)
    image = tmp_path / "image"
    for package in packages_of_serving():
        shutil.copytree(ROOT / package, image / package)
    builders.write_policy(tmp_path / "data" / "policies")
    entry = Entry(action="promote", policy="cartpole", version=1, who="test", why="to serve")
    FileLedger(tmp_path / "data" / "policies" / LEDGER_FILE).append(entry, after=0)

    doctor = [str(python), "-m", "cli", "doctor", "--json", "--port=0"]
    flags = [f"--data={tmp_path / 'data'}", "--disk-free-share=0"]
    done = subprocess.run(
        [*doctor, *flags],
        cwd=image,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    proven = [each for each in findings if each["check"] == "policy cartpole v1"]
    assert [each["state"] for each in proven] == ["warning"], findings
    assert "would serve" in proven[0]["found"]
    assert done.returncode == 0
