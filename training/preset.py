"""Presets: configurations by name, which may build on one another."""

import tomllib
from pathlib import Path
from typing import Any

PRESETS_FOLDER = Path(__file__).parent / "presets"

_EXTENDS = "extends"


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(path.stem for path in PRESETS_FOLDER.glob("*.toml"))


def read_preset(preset: str) -> dict[str, Any]:
    """The values of a preset, named or given as the path of a TOML file.

    A preset that `extends` another has that one's values where it says nothing itself.

    Raises:
        ValueError: There is no such preset.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS_FOLDER / f"{preset}.toml"
    if not path.is_file():
        raise ValueError(f"no preset {preset!r}; there are: {', '.join(preset_names())}")
    values = tomllib.loads(path.read_text())
    extended = values.pop(_EXTENDS, None)
    return values if extended is None else read_preset(extended) | values
