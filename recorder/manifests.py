"""What versions promise, as read from the policy repository, and the profiles made since."""

from pathlib import Path
from typing import Final

import structlog

from contract.live_profile import LiveProfileError, LiveProfiles
from contract.manifest import Manifest, ManifestError, decode_manifest

_FILE: Final = "manifest.json"

_log = structlog.get_logger(__name__)


class Manifests:
    """Owns the manifests that were read. A version never changes; it may get a profile later."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._known: dict[tuple[str, int], Manifest] = {}
        self._told: set[tuple[str, int]] = set()
        self._profiles = LiveProfiles(repository)
        self._armed: dict[tuple[str, int], Manifest] = {}

    def find(self, policy: str, version: int) -> Manifest | None:
        """A version's; None, and told once, where it is not to be had.

        Where the bundle has no profile, with the one that was made from its log, if any.
        """
        manifest = self._read(policy, version)
        if manifest is None or manifest.profile is not None:
            return manifest
        try:
            profile = self._profiles.find(policy, version)
        except LiveProfileError as error:
            _log.error("profile_refused", policy=policy, version=version, error=str(error))
            profile = None
        if profile is None:
            return manifest
        armed = self._armed.get((policy, version))
        # The same object for the same profile: who watches begins anew with another one.
        if armed is None or armed.profile is not profile:
            armed = manifest.model_copy(update={"profile": profile})
            self._armed[policy, version] = armed
        return armed

    def _read(self, policy: str, version: int) -> Manifest | None:
        key = (policy, version)
        if key not in self._known:
            try:
                content = (self._repository / policy / str(version) / _FILE).read_bytes()
                self._known[key] = decode_manifest(content)
            except (OSError, ManifestError) as error:
                if key not in self._told:
                    self._told.add(key)
                    _log.warning("manifest_unknown", policy=policy, version=version, why=str(error))
                return None
        return self._known[key]
