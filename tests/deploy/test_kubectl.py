"""The manifests as kustomize itself renders them, held to Kubernetes' own schemas."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic_settings import CliApp

from retraining.config import RetrainConfig
from tests.deploy.rendering import KUSTOMIZE, OVERLAYS, ROOT, identity, pod_specs, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ENVIRONMENT: Final = ROOT / ".bench" / "kubernetes-validate"
REQUIREMENTS: Final = ("kubernetes-validate==1.37.0",)
VERSIONS: Final = ("1.27", "1.31")


@pytest.fixture(scope="module")
def validator() -> Path:
    """`kubernetes-validate`, in an environment of its own, for its schemas are large."""
    note = ENVIRONMENT / "requirements.json"
    if not note.exists() or json.loads(note.read_text()) != list(REQUIREMENTS):
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        uv = (sys.executable, "-m", "uv", "--quiet")
        subprocess.run([*uv, "venv", "--python", sys.executable, ENVIRONMENT], check=True)
        python = ENVIRONMENT / "bin" / "python"
        subprocess.run([*uv, "pip", "install", "--python", python, *REQUIREMENTS], check=True)
        note.write_text(json.dumps(REQUIREMENTS))
    return ENVIRONMENT / "bin" / "kubernetes-validate"


def kustomize(name: str) -> str:
    program = shutil.which("kubectl")
    assert program is not None, "kubectl 1.27 or newer is needed"
    folder = KUSTOMIZE / "overlays" / name
    done = subprocess.run(
        [program, "kustomize", folder], capture_output=True, check=True, text=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_quick_tests_read_what_kustomize_renders(name: str) -> None:
    def by_identity(resources: list[Any]) -> dict[tuple[str, str], Any]:
        return {identity(each): each for each in resources}

    real = by_identity(list(yaml.safe_load_all(kustomize(name))))
    assert by_identity(render(KUSTOMIZE / "overlays" / name)) == real


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_knows_every_field(
    validator: Path, tmp_path: Path, name: str, version: str
) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(kustomize(name), encoding="utf-8")
    done = subprocess.run(
        [validator, "--strict", "-k", version, path], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    # Kinds of the operators have no schema here.
    unknown = {line.split("kind ")[1].split()[0] for line in said.splitlines() if "WARN" in line}
    assert unknown <= {"PrometheusRule", "ServiceMonitor"}


def test_retraining_is_told_what_it_understands() -> None:
    resources = render(KUSTOMIZE / "overlays" / "production")
    (container,) = pod_specs(resources)["dqn-retraining"]["containers"]
    verb, *flags = container["args"]
    assert verb == "retrain"
    told = CliApp.run(RetrainConfig, cli_args=flags)
    assert told.every == 6 * 3600
    (service,) = [each for each in resources if identity(each) == ("Service", "dqn")]
    admin = {port["name"]: port["port"] for port in service["spec"]["ports"]}["admin"]
    assert told.server == f"http://dqn:{admin}"
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert told.key_file is not None
    assert {str(told.data), f"{told.data}/policies", str(told.key_file.parent)} <= mounts


def test_a_misspelt_field_would_be_found(validator: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    wrong = kustomize("development").replace("terminationGracePeriodSeconds", "gracePeriod")
    path.write_text(wrong, encoding="utf-8")
    done = subprocess.run([validator, "--strict", "-k", VERSIONS[0], path], check=False)
    assert done.returncode != 0
