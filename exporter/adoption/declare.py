"""What an adopted policy declares: from the source, its environment, the flags and a template."""

import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from contract.declaration import (
    DECLARATION_FILE,
    DeclarationError,
    ObservationSpec,
    PolicyDeclaration,
    first_fault,
    read_declaration,
)
from contract.heuristics import refuse_unlisted
from exporter.adoption.config import AdoptConfig
from exporter.adoption.preparation import Preparation, observation_shape, read_normalisation
from exporter.adoption.source import AdoptionError, Source
from training.environments import describe_environment

_NO_STATISTICS: Final = Path("none")
_PICTURES: Final = (
    "the network takes pictures: state how agents send a frame (--image-layout grey, "
    "channels-first or channels-last) and how many are stacked (--frame-stack)"
)


def declare(config: AdoptConfig, source: Source, policy_directory: Path) -> PolicyDeclaration:
    """The declaration that stands, or the one that the first version brings.

    Raises:
        AdoptionError: Something must be stated that is not, or what is stated disagrees.
        DeclarationError: `policy.toml` or the template declares something impossible.
    """
    template = _template(config)
    if (policy_directory / DECLARATION_FILE).exists():
        declaration = read_declaration(policy_directory)
        _check_agreement(declaration, template)
    else:
        declaration = _new_declaration(config, source, template)
    _check_source(declaration, source)
    try:
        refuse_unlisted(declaration.heuristic, config.allowed_heuristics)
    except ValueError as error:
        raise DeclarationError(str(error)) from error
    return declaration


def choose_preparation(
    config: AdoptConfig, source: Source, observation: ObservationSpec
) -> Preparation:
    """What happens to a declared observation before the network sees it.

    Raises:
        AdoptionError: The network does not take what is declared, or it was not said whether
            observations were normalised.
    """
    input_shape = source.facts.input_shape or _picture_shape(config, observation)
    if len(input_shape) == 3 and config.image_layout is None:
        raise AdoptionError(_PICTURES)
    layout = config.image_layout if len(input_shape) == 3 else None
    expected = observation_shape(input_shape, layout, observation.frame_stack)
    if expected != observation.shape:
        raise AdoptionError(
            f"the network takes {list(expected)} where frames are {layout or 'not pictures'} and "
            f"{observation.frame_stack} are stacked; declared is {list(observation.shape)}"
        )
    normalisation = None
    if config.vecnormalize not in (None, _NO_STATISTICS):
        if source.kind != "stable-baselines3" or observation.frame_stack > 1 or layout:
            raise AdoptionError("statistics are taken for Stable-Baselines3's unstacked vectors")
        normalisation = read_normalisation(config.vecnormalize, observation.shape)
    elif source.facts.may_be_normalised and config.vecnormalize is None:
        raise AdoptionError(
            "a Stable-Baselines3 zip does not say whether its observations went through "
            "VecNormalize, and without its statistics every Q-value would be wrong: give them with "
            "--vecnormalize FILE.npz, or state --vecnormalize none"
        )
    return Preparation(observation, input_shape, layout, normalisation)


def _check_agreement(standing: PolicyDeclaration, template: dict[str, Any]) -> None:
    """Whatever the template says, what stands says too."""
    stands = standing.model_dump(mode="json")
    for name, told in template.items():
        found = stands.get(name)
        if isinstance(told, dict) and isinstance(found, dict):
            found = {key: found.get(key) for key in told}
        if found != told:
            raise DeclarationError(
                f"policy.toml declares {name} {found!r}, adopted is {told!r}; what stands outlives "
                "every version: adopt without a declaration, or as another policy"
            )


def _new_declaration(
    config: AdoptConfig, source: Source, template: dict[str, Any]
) -> PolicyDeclaration:
    if "heuristic" not in template:
        raise AdoptionError(
            "a policy needs a heuristic, which answers when its model cannot: --heuristic "
            "constant:ACTION with an action that is always safe, --heuristic random, or a "
            "--declaration with one of your own"
        )
    observation = _observation(config, source, template.get("observation", {}))
    count = {} if source.facts.num_actions is None else {"count": source.facts.num_actions}
    try:
        return PolicyDeclaration.model_validate(
            template
            | {"observation": observation, "actions": count | dict(template.get("actions", {}))}
        )
    except ValidationError as error:
        raise DeclarationError(first_fault(error)) from error


def _observation(config: AdoptConfig, source: Source, told: dict[str, Any]) -> dict[str, Any]:
    facts = source.facts
    found: dict[str, Any] = {"first_frames": config.first_frames or facts.first_frames}
    if facts.dtype is not None:
        found["dtype"] = facts.dtype
    found["frame_stack"] = config.frame_stack or 1
    is_picture = facts.input_shape is None or len(facts.input_shape) == 3
    if is_picture and (config.image_layout is None or config.frame_stack is None):
        raise AdoptionError(_PICTURES)
    if facts.input_shape is not None:
        layout = config.image_layout if is_picture else None
        found["shape"] = observation_shape(facts.input_shape, layout, config.frame_stack or 1)
    if config.environment is not None:
        found |= _from_environment(config.environment, found)
    if "shape" not in found | told:
        raise AdoptionError(
            "the file does not say how large its observations are: declare it in the "
            "--declaration, [observation] shape = [...]"
        )
    return found | told


def _from_environment(environment: str, found: dict[str, Any]) -> dict[str, Any]:
    try:
        spec = describe_environment(environment).observation
    except ValueError as error:
        raise AdoptionError(str(error)) from error
    wanted = found.get("shape", spec.shape)
    if spec.shape != tuple(wanted):
        raise AdoptionError(
            f"{environment} gives observations of {list(spec.shape)}, the policy takes "
            f"{list(wanted)}: profile it with --samples instead"
        )
    return spec.model_dump(exclude={"frame_stack", "first_frames"}, exclude_none=True)


def _picture_shape(config: AdoptConfig, observation: ObservationSpec) -> tuple[int, ...]:
    """What a network of pictures takes, where only the declaration says how large they are."""
    shape, stack = observation.shape, observation.frame_stack
    frame = shape if stack == 1 else shape[1:]
    match config.image_layout, frame:
        case "grey", (height, width):
            return (stack, height, width)
        case "channels-first", (channels, height, width):
            return (stack * channels, height, width)
        case "channels-last", (height, width, channels):
            return (stack * channels, height, width)
    if config.image_layout is None:
        raise AdoptionError(_PICTURES)
    raise AdoptionError(f"a frame of {list(frame)} is not {config.image_layout}")


def _check_source(declaration: PolicyDeclaration, source: Source) -> None:
    found = source.facts.num_actions
    if found is not None and found != declaration.actions.count:
        raise AdoptionError(
            f"the network has {found} Q-values, {declaration.actions.count} actions are declared"
        )


def _template(config: AdoptConfig) -> dict[str, Any]:
    """What the flags or the file say, as `policy.toml` would."""
    if config.declaration is not None:
        if config.heuristic is not None:
            raise AdoptionError("--heuristic and --declaration: one of them says the heuristic")
        try:
            return tomllib.loads(config.declaration.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DeclarationError(f"{config.declaration}: {error}") from error
    if config.heuristic is None:
        return {}
    kind, _, action = config.heuristic.partition(":")
    if kind == "random":
        return {"heuristic": {"kind": "random"}}
    number = int(action)
    return {"heuristic": {"kind": "constant", "action": number}, "constant_action": number}
