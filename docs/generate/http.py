"""Every call of the service."""

import inspect
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from docs.generate.docstrings import attribute_docstrings
from docs.generate.tables import one_line, table
from service import faces
from service.app import create_app
from service.errors import ServiceError
from service.faces.hot import HOT_ROUTES
from service.settings import ServiceSettings


def page() -> str:
    """Every call of the service."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(ServiceSettings(data=Path(folder)))
    document = app.openapi()
    scopes = _scopes(app.routes)
    lines = [
        "# HTTP\n",
        "Bodies are JSON; the four calls of decisions and `infer` also take MessagePack and raw "
        "tensors. The same, with examples to try, is at `/docs` of a running service. The scope is "
        "what a [key](../how-to/keys.md) must have.",
    ]
    tag = ""
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if told["tags"][0] != tag:
                tag = told["tags"][0]
                lines.append(f"\n## {tag.capitalize()}")
            scope = scopes.get((path, method.upper()))
            needs = f" Scope: `{scope}`." if scope else ""
            lines.append(f"\n### `{method.upper()} {path}`\n")
            lines.append(f"{one_line(told['description'])}{needs}")
            lines += _body_table(told, document["components"]["schemas"])
    lines += ["\n## Errors\n", 'Each is `{"error": "<what>", "code": "<which>"}`.\n']
    errors = sorted({(str(e.status), f"`{e.code}`", one_line(e.__doc__)) for e in _error_types()})
    lines += table(("status", "code", "is"), errors)
    return "\n".join(lines) + "\n"


def _scopes(routes: Iterable[Any]) -> dict[tuple[str, str], str]:
    """Path and method to the scope that a key needs."""
    found: dict[tuple[str, str], str] = {(route.path, "POST"): route.scope for route in HOT_ROUTES}
    for route in _api_routes(routes):
        for each in _flat(route.dependant):
            scope = inspect.getclosurevars(each).nonlocals.get("scope")
            if scope is not None:
                found |= {(route.path, method): scope for method in route.methods or ()}
    return found


def _api_routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    for each in routes:
        if isinstance(each, APIRoute):
            yield each
        elif hasattr(each, "original_router"):
            yield from _api_routes(each.original_router.routes)


def _flat(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        if inspect.isfunction(each.call):
            yield each.call
        yield from _flat(each)


def _body_table(told: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    query = [each for each in told.get("parameters", ()) if each["in"] == "query"]
    rows = [(f"`?{p['name']}`", _schema_type(p["schema"], schemas), "") for p in query]
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    rows += _properties(content.get("schema", {}), schemas)
    return ["", *table(("field", "type", "is"), rows)] if rows else []


def _properties(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], within: str = ""
) -> list[tuple[str, str, str]]:
    schema = _resolved(schema, schemas)
    required = schema.get("required", ())
    meanings = _meanings().get(schema.get("title", ""), {})
    rows = []
    for name, each in schema.get("properties", {}).items():
        kind = _schema_type(each, schemas)
        is_needed = " (required)" if name in required else ""
        told = one_line(each.get("description")) or meanings.get(name, "")
        rows.append((f"`{within}{name}`", f"{kind}{is_needed}", told))
        if "items" in each and "properties" in each["items"]:
            rows += _properties(each["items"], schemas, f"{within}{name}[].")
    return rows


@cache
def _meanings() -> dict[str, dict[str, str]]:
    """Class of a body to field to its meaning, whether a struct or a model decodes it."""
    found: dict[str, dict[str, str]] = {}
    for path in Path(faces.__file__).parent.glob("*.py"):
        found |= attribute_docstrings(path)
    return found


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    found: Mapping[str, Any] = schemas[reference.rpartition("/")[2]] if reference else schema
    return found


def _schema_type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "a [plan](settings.md#a-plan-of-stages)" if name == "RolloutPlan" else name
    if "anyOf" in schema:
        kinds = (_schema_type(e, schemas) for e in schema["anyOf"] if e.get("type") != "null")
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"] if each is not None)
    return str(schema.get("type", "any"))


def _error_types() -> list[type[ServiceError]]:
    found = [ServiceError]
    for each in found:
        found += each.__subclasses__()
    return found[1:]
