"""The import table of the house, read from the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT: dict[str, set[str]] = {
    "contract": set(),
    "service": {"contract"},
    "recorder": {"contract"},
    "dqn_client": {"contract"},
    "training": {"contract"},
    "exporter": {
        "contract",
        "service.inference",
        "training.network",
        "training.checkpoint",
        "training.evaluate",
        "training.environments",
        "training.flags",
    },
    "retraining": {"contract", "recorder.dataset", "training", "exporter", "dqn_client"},
    "cli": {
        "contract",
        "dqn_client",
        "recorder.archive",
        "recorder.audit",
        "recorder.dataset",
        "recorder.seal",
        "recorder.settings",
        "recorder.shards",
        "recorder.sources",
        "recorder.waiting",
        "retraining",
        "service.inference",
        "service.keys",
        "service.settings",
    },
    "dashboards": {"service.metrics"},
    "benchmarks": {
        "contract",
        "dqn_client",
        "exporter",
        "recorder",
        "retraining",
        "service",
        "training",
    },
}
PACKAGES = set(MAY_IMPORT)


def imported_modules(path: Path) -> Iterator[str]:
    """Every module a file imports, functions' own imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # `from service import app` imports service.app, so both names are held to the table.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    allowed = MAY_IMPORT[package] | {package}
    breaches = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in imported_modules(path)
        if module.split(".")[0] in PACKAGES
        and not any(module == each or module.startswith(f"{each}.") for each in allowed)
    ]
    assert breaches == []


def test_every_package_of_the_house_is_in_the_table() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert folders == PACKAGES


def test_the_contract_imports_numpy_pydantic_msgspec_and_zstandard_at_most() -> None:
    outside = {
        module.split(".")[0]
        for path in (ROOT / "contract").rglob("*.py")
        for module in imported_modules(path)
    } - set(sys.stdlib_module_names)
    assert outside == {"contract", "numpy", "pydantic", "msgspec", "zstandard"}


def test_the_service_starts_where_torch_and_onnx_are_not_installed() -> None:
    code = "import sys; sys.modules.update(torch=None, onnx=None, gymnasium=None); "
    code += "import service.app, service.worker, service.__main__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_command_line_imports_no_process_until_its_verb_is_called() -> None:
    code = "import sys, cli.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    processes = {"service", "recorder", "training", "exporter", "retraining"}
    assert not loaded & (processes | {"torch", "fastapi", "onnxruntime", "pyarrow"})


def test_no_module_is_named_for_nothing_in_particular() -> None:
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not names & {"utils", "util", "common", "base", "manager", "helpers", "misc"}
