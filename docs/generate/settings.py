"""Every setting of every process, and the files that an operator writes."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cli.run import RunConfig
from contract.declaration import PolicyDeclaration
from contract.plan import RolloutPlan
from docs.generate.docstrings import attribute_docstrings
from docs.generate.tables import one_line, table
from exporter.adoption.config import AdoptConfig
from exporter.config import ExportConfig
from recorder.settings import RecorderSettings
from retraining.config import RetrainConfig
from service.settings import ServiceSettings
from training.config import TrainingConfig
from training.evaluate import EvaluationConfig
from training.report import ReportConfig
from training.sweep import SweepConfig

_SETTINGS: Final = (
    ("`dqn serve`", "`[serve]` of `dqn.toml`, then `DQN_SERVE_…`, then flags", ServiceSettings),
    ("`dqn record`", "`DQN_RECORD_…`, then flags", RecorderSettings),
    ("`dqn run`", "`DQN_RUN_…`, then flags", RunConfig),
    ("`dqn train`", "a preset, then flags", TrainingConfig),
    ("`dqn evaluate`", "flags", EvaluationConfig),
    ("`dqn sweep`", "flags", SweepConfig),
    ("`dqn report`", "flags", ReportConfig),
    ("`dqn export`", "flags", ExportConfig),
    ("`dqn adopt`", "flags", AdoptConfig),
    ("`dqn retrain`", "flags", RetrainConfig),
    ("`policy.toml`", "beside a policy's versions", PolicyDeclaration),
    ("A plan of stages", "`dqn canary --stages`, `PUT …/rollout`", RolloutPlan),
)
VERBS_WITH_SETTINGS: Final = {
    title.strip("`").removeprefix("dqn "): model for title, _, model in _SETTINGS if "dqn " in title
}
"""Verb to what it is told: its flags, and for some its environment."""


def page() -> str:
    """Every setting of every process, and the files that an operator writes."""
    lines = [
        "# Settings\n",
        "A setting `spool_max_bytes` is the flag `--spool-max-bytes` and, where a process reads "
        "the environment, the variable `<PREFIX>SPOOL_MAX_BYTES`. Later sources override earlier "
        "ones. "
        "What no setting is called is refused.",
    ]
    for title, sources, model in _SETTINGS:
        lines += [f"\n## {title}\n", f"From {sources}.\n"]
        rows = [(f"`{name}`", kind, default, told) for name, kind, default, told in _fields(model)]
        lines += table(("setting", "type", "default", "is"), rows)
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], within: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each field, those of nested values after it."""
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        default = "" if inspect.isclass(field.annotation) and nested else _default(field)
        told = one_line(field.description) or _meaning(model, name)
        yield f"{within}{name}", _kind(field), default, told
        if nested:
            yield from _fields(nested, f"{within}{name}.")


def _meaning(model: type[BaseModel], field: str) -> str:
    """As the class that declares the field says."""
    for each in model.__mro__:
        if issubclass(each, BaseModel) and field in each.__annotations__:
            source = inspect.getsourcefile(each)
            if source is not None:
                return attribute_docstrings(Path(source))[each.__name__].get(field, "")
    return ""


def _nested(annotation: Any) -> type[BaseModel] | None:
    for each in (annotation, *get_args(annotation)):
        if inspect.isclass(each) and issubclass(each, BaseModel):
            return each if get_origin(annotation) is not Union else None
    return None


def _kind(field: FieldInfo) -> str:
    bounds = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(each, name):g}"
        for each in field.metadata
        for name, sign in bounds.items()
        if isinstance(getattr(each, name, None), int | float)
    ]
    return ", ".join([_type_name(field.annotation), *limits])


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(annotation))
    parts = [each for each in get_args(annotation) if each not in (NoneType, Ellipsis)]
    if get_origin(annotation) is tuple:
        return "list of " + " or ".join(dict.fromkeys(map(_type_name, parts)))
    if get_origin(annotation) is dict:
        return "table"
    if parts and hasattr(annotation, "__metadata__"):
        return _type_name(parts[0])
    if parts:
        return " or ".join(dict.fromkeys(map(_type_name, parts)))
    names = {"SecretStr": "secret", "Path": "path", "str": "text", "int": "integer"}
    names |= {"float": "number", "bool": "yes or no"}
    name = getattr(annotation, "__name__", str(annotation))
    is_value = inspect.isclass(annotation) and issubclass(annotation, BaseModel)
    return "table" if is_value else names.get(name, name)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None or value == () or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"`{', '.join(_short(each) for each in value)}`"
    return f"`{value}`"


def _short(value: Any) -> str:
    return f"{value.share:g}" if hasattr(value, "share") else str(value)
