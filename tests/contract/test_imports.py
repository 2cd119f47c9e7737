import ast
import sys
from pathlib import Path

import contract

ALLOWED = {"contract", "msgspec", "numpy", "pydantic", "zstandard"}


def test_contract_imports_four_packages_and_the_standard_library() -> None:
    modules = list(Path(contract.__path__[0]).glob("*.py"))
    assert len(modules) > 10
    imported = {
        name.split(".")[0]
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or "."] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert imported - set(sys.stdlib_module_names) <= ALLOWED
