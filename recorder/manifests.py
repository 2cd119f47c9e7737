"""What versions promise, as read from the policy repository."""

from pathlib import Path
from typing import Final

import structlog

from contract.manifest import Manifest, ManifestError, decode_manifest

_FILE: Final = "manifest.json"

_log = structlog.get_logger(__name__)


class Manifests:
    """Owns the manifests that were read; a version never changes."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._known: dict[tuple[str, int], Manifest] = {}
        self._told: set[tuple[str, int]] = set()

    def find(self, policy: str, version: int) -> Manifest | None:
        """A version's; None, and told once, where it is not to be had."""
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
