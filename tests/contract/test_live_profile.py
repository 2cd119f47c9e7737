from pathlib import Path

import pytest

from contract.drift_reference import DriftReference
from contract.live_profile import (
    LiveProfileError,
    LiveProfiles,
    live_profile_path,
    refuse_misfit,
    write_live_profile,
)
from tests import builders


def test_a_profile_is_the_same_object_until_its_file_changes(tmp_path: Path) -> None:
    found = LiveProfiles(tmp_path)
    assert found.find("cartpole", 3) is None
    write_live_profile(tmp_path / "cartpole", 3, builders.profile())
    first = found.find("cartpole", 3)
    assert first == builders.profile()
    assert found.find("cartpole", 3) is first
    write_live_profile(tmp_path / "cartpole", 3, builders.profile(absolute_q_maximum=123.5))
    second = found.find("cartpole", 3)
    assert second is not None
    assert second.absolute_q_maximum == 123.5
    live_profile_path(tmp_path / "cartpole", 3).unlink()
    assert found.find("cartpole", 3) is None


def test_a_file_that_is_no_profile_is_told_of_once_and_takes_nothing_away(tmp_path: Path) -> None:
    found = LiveProfiles(tmp_path)
    write_live_profile(tmp_path / "cartpole", 3, builders.profile())
    first = found.find("cartpole", 3)
    path = live_profile_path(tmp_path / "cartpole", 3)
    path.write_text('{"episode_return": 1}')
    with pytest.raises(LiveProfileError, match="episode_return"):
        found.find("cartpole", 3)
    assert found.find("cartpole", 3) is first


def test_a_profile_that_nothing_can_be_judged_by_is_refused() -> None:
    for profile in (builders.profile(), builders.profile(drift=DriftReference())):
        with pytest.raises(LiveProfileError, match=r"judge drift by|Q-values: expected 2, found 0"):
            refuse_misfit(builders.manifest(), profile)
