"""From an environment's name to the environment.

A name is Gymnasium's, and may go on like a URL with options, so that it alone says what a
checkpoint was trained in:

    CartPole-v1?length=0.3:0.7&observation_noise=0.02     physics and sensor drawn each episode
    ALE/Breakout-v5?life_loss=false&crop_top=32           Atari, preprocessed as is customary
"""

import re
from typing import Any, NamedTuple

import gymnasium
from pydantic import ValidationError

from training.atari_options import FRAME_STACK, AtariOptions
from training.randomisation import (
    OBSERVATION_NOISE,
    OBSERVATION_SHIFT,
    SENSOR,
    RandomisedPhysics,
    RandomisedSensor,
    Range,
)

_ATARI = re.compile(r"ALE/(\w+)-v5")
_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


class EnvironmentName(NamedTuple):
    """A name in its parts."""

    gymnasium_id: str
    options: dict[str, str]

    @property
    def game(self) -> str | None:
        """The Atari game in snake case; `None` where it is none."""
        found = _ATARI.fullmatch(self.gymnasium_id)
        return None if found is None else _CAMEL_HUMP.sub("_", found.group(1)).lower()


def parse_name(name: str) -> EnvironmentName:
    """Take a name apart.

    Raises:
        ValueError: An option is not `key=value`, or is there twice.
    """
    gymnasium_id, _, query = name.partition("?")
    options: dict[str, str] = {}
    for option in query.split("&") if query else []:
        key, equals, value = option.partition("=")
        if not (key and equals and value) or key in options:
            raise ValueError(f"{name}: {option!r} is not one more key=value")
        options[key] = value
    return EnvironmentName(gymnasium_id, options)


def frame_stack_of(name: str) -> int:
    """How many frames the first axis of observations holds; 1 where they are not stacked."""
    return 1 if parse_name(name).game is None else FRAME_STACK


def make_environment(name: str, *, for_training: bool) -> gymnasium.Env[Any, Any]:
    """Make one environment.

    Args:
        name: As this module describes.
        for_training: Whether a life is an episode and physics and sensors vary; an evaluation
            plays whole games of the nominal environment.

    Raises:
        ValueError: There is no such environment or option.
    """
    parsed = parse_name(name)
    try:
        if parsed.game is not None:
            return _make_atari(parsed.game, parsed.options, for_training=for_training)
        environment: gymnasium.Env[Any, Any] = gymnasium.make(parsed.gymnasium_id)
        # Also where nothing varies, so that a wrong option is found at once.
        varied = _randomised(environment, parsed.options)
    except (gymnasium.error.Error, ValidationError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    return varied if for_training else environment


def _make_atari(
    game: str, options: dict[str, str], *, for_training: bool
) -> gymnasium.Env[Any, Any]:
    # Only who plays Atari needs its emulator.
    from training.atari import AtariEnvironment

    chosen = AtariOptions.model_validate(options)
    return AtariEnvironment(
        game, chosen if for_training else chosen.model_copy(update={"life_loss": False})
    )


def _randomised(
    environment: gymnasium.Env[Any, Any], options: dict[str, str]
) -> gymnasium.Env[Any, Any]:
    sensor = {key: float(value) for key, value in options.items() if key in SENSOR}
    physics = {key: _range(value) for key, value in options.items() if key not in SENSOR}
    if physics:
        environment = RandomisedPhysics(environment, physics)
    if sensor:
        environment = RandomisedSensor(
            environment, sensor.get(OBSERVATION_NOISE, 0.0), sensor.get(OBSERVATION_SHIFT, 0.0)
        )
    return environment


def _range(text: str) -> Range:
    low, _, high = text.partition(":")
    found = Range(float(low), float(high or low))
    if not found.low <= found.high:
        raise ValueError(f"{text!r} is not a range low:high")
    return found
