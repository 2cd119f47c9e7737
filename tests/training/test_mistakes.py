from pathlib import Path
from typing import Any

import pytest

from contract.declaration import ObservationSpec
from tests.training.builders import training_config
from training.mistakes import find_mistakes

SOUND: dict[str, Any] = {
    "total_steps": 50_000,
    "replay_capacity": 10_000,
    "target_update": "hard",
    # 1,600 steps are 100 rounds of 16 steps; a round has 1 update.
    "target_sync_steps": 1_600,
    "updates_per_round": 1,
    "normalise_observations": True,
    "reward_clip": 1.0,
}


def mistakes(out: Path, **changes: Any) -> list[str]:
    config = training_config(out, **(SOUND | changes))
    return find_mistakes(config, ObservationSpec(shape=(4,)))


def test_sound_settings_are_not_warned_of(tmp_path: Path) -> None:
    assert mistakes(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replay_capacity": 9_999}, "replay holds 9999"),
        ({"target_sync_steps": 1_500}, "synced every 94 updates"),
        ({"target_update": "soft", "target_blend": 0.06}, "blends 0.06"),
        ({"normalise_observations": False}, "as they are"),
        ({"reward_clip": None}, "neither clipped nor scaled"),
    ],
)
def test_each_mistake_is_warned_of_alone(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    (mistake,) = mistakes(tmp_path, **changes)
    assert words in mistake


@pytest.mark.parametrize(
    "changes",
    [
        {"target_update": "soft", "target_blend": 0.05},
        {"reward_clip": None, "reward_scale": 0.1},
        {"total_steps": 3_000, "replay_capacity": 3_000},
        {"normalise_observations": False, "convolutions": "nature"},
    ],
)
def test_what_only_looks_like_a_mistake_is_not_warned_of(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert mistakes(tmp_path, **changes) == []
