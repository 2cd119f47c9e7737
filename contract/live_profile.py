"""A version's profile where its bundle has none: made from its log, kept beside the bundle.

Bundles are never changed, so it is a file of its own: `<policy>/profiles/<version>.json`. The
ledger says who wrote it and why.
"""

from pathlib import Path
from typing import Final

import msgspec
from pydantic import ValidationError

from contract.declaration import first_fault
from contract.files import make_directory, replace_file
from contract.manifest import Manifest, Profile

_FOLDER: Final = "profiles"

_Stamp = tuple[int, int]


class LiveProfileError(Exception):
    """A file is no profile, or a profile is another policy's."""


class LiveProfiles:
    """Reads them anew as they change."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._known: dict[tuple[str, int], tuple[_Stamp, Profile | None]] = {}

    def find(self, policy: str, version: int) -> Profile | None:
        """A version's, the same object until its file changes; None where there is none.

        Raises:
            LiveProfileError: The file is no profile; told once for each change of it, after which
                what was found before holds.
        """
        path = live_profile_path(self._repository / policy, version)
        try:
            status = path.stat()
        except OSError:
            self._known.pop((policy, version), None)
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._known.get((policy, version))
        if known is not None and known[0] == stamp:
            return known[1]
        self._known[policy, version] = (stamp, None if known is None else known[1])
        profile = _read(path)
        self._known[policy, version] = (stamp, profile)
        return profile


def live_profile_path(policy: Path, version: int) -> Path:
    """Where it is, in a policy's folder."""
    return policy / _FOLDER / f"{version}.json"


def write_live_profile(policy: Path, version: int, profile: Profile) -> None:
    """Write it into a policy's folder, durably and in one step."""
    path = live_profile_path(policy, version)
    make_directory(path.parent)
    replace_file(path, msgspec.json.format(profile.model_dump_json().encode(), indent=2))


def refuse_misfit(manifest: Manifest, profile: Profile) -> None:
    """Raise LiveProfileError where a profile is not of what this version sees and gives."""
    drift = profile.drift
    if drift is None:
        raise LiveProfileError("the profile has nothing to judge drift by")
    for what, found, expected in (
        ("observation elements", len(drift.observations), (0, manifest.observation.size)),
        ("features", len(drift.features), (0, manifest.num_features)),
        ("Q-values", len(drift.q_values), (manifest.actions.count,)),
    ):
        if found not in expected:
            raise LiveProfileError(f"{what}: expected {expected[-1]}, found {found}")


def _read(path: Path) -> Profile:
    try:
        return Profile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise LiveProfileError(f"{path}: {first_fault(error)}") from error
    except OSError as error:
        raise LiveProfileError(f"{path}: {error}") from error
