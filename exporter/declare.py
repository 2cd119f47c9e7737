"""The policy's declaration at export: the one that stands, or one made from a template.

A template is a `policy.toml` in which what the checkpoint knows may be left out: the observation
and the number of actions. `declarations/` holds those of the environments we train on.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from contract.declaration import (
    DECLARATION_FILE,
    DeclarationError,
    PolicyDeclaration,
    read_declaration,
)
from contract.heuristics import refuse_unlisted
from training.checkpoint import CheckpointMetadata

_TEMPLATES: Final = Path(__file__).parent / "declarations"
_TEMPLATE_NAMES: Final = {"CartPole-v1": "cartpole.toml", "LunarLander-v3": "lunarlander.toml"}


def choose_declaration(
    metadata: CheckpointMetadata,
    policy_directory: Path,
    template: Path | None,
    allowed_heuristics: Sequence[str] = (),
) -> PolicyDeclaration:
    """What `policy.toml` says or will say; what stands there already holds.

    Args:
        metadata: Of the checkpoint that is to become a version.
        policy_directory: Where `policy.toml` is, if there is one.
        template: What the caller wants it to say; without one, what we have for the environment.
        allowed_heuristics: Python functions that may run here.

    Raises:
        DeclarationError: There is no declaration to be had, or two of the three disagree.
    """
    if (policy_directory / DECLARATION_FILE).exists():
        declaration = read_declaration(policy_directory)
        if template is not None:
            _check_agreement(declaration, complete_template(template, metadata), template)
    else:
        template = template or _known_template(metadata.environment_id)
        declaration = complete_template(template, metadata)
    _check_checkpoint(declaration, metadata)
    try:
        refuse_unlisted(declaration.heuristic, allowed_heuristics)
    except ValueError as error:
        raise DeclarationError(str(error)) from error
    return declaration


def complete_template(template: Path, metadata: CheckpointMetadata) -> PolicyDeclaration:
    """The declaration that a template makes of a checkpoint.

    Raises:
        DeclarationError: The template is missing, is not TOML or declares something impossible.
    """
    try:
        document = tomllib.loads(template.read_text(encoding="utf-8"))
        observation = metadata.observation.model_dump(mode="json", exclude_none=True)
        return PolicyDeclaration.model_validate(
            document
            | {
                "observation": observation | _table(document, "observation"),
                "actions": {"count": metadata.num_actions} | _table(document, "actions"),
            }
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise DeclarationError(f"{template}: {error}") from error


def _known_template(environment_id: str) -> Path:
    if environment_id not in _TEMPLATE_NAMES:
        raise DeclarationError(
            f"no declaration is known for {environment_id}: give one with --declaration; "
            "a policy needs at least a heuristic, which answers when its model cannot"
        )
    return _TEMPLATES / _TEMPLATE_NAMES[environment_id]


def _check_agreement(
    standing: PolicyDeclaration, wanted: PolicyDeclaration, template: Path
) -> None:
    for field in PolicyDeclaration.model_fields:
        found, expected = getattr(standing, field), getattr(wanted, field)
        if found != expected:
            raise DeclarationError(
                f"policy.toml declares {field} {found!r}, {template} {expected!r}; what stands "
                "outlives every version: export without the template, or as another policy"
            )


def _check_checkpoint(declaration: PolicyDeclaration, metadata: CheckpointMetadata) -> None:
    for what, found, expected in (
        ("observation", metadata.observation, declaration.observation),
        ("number of actions", metadata.num_actions, declaration.actions.count),
    ):
        if found != expected:
            raise DeclarationError(
                f"the checkpoint's {what} is {found!r}, policy.toml declares {expected!r}"
            )


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise DeclarationError(f"{name} is {table!r}, expected a table")
    return table
