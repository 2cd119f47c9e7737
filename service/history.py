"""What happened to the processes of one box: starts, ends, deaths, and settings that changed.

The ledger tells what people and judges did to policies; this is what it cannot know. The
supervisor alone writes it, a line an event.
"""

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from contract.files import replace_file
from service.settings import ServiceSettings

HISTORY_FILE: Final = "history.jsonl"
_MOST_EVENTS: Final = 2000

What = Literal["started", "stopped", "worker_died", "changed"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened."""

    at: float
    """Unix seconds."""
    what: What
    told: str
    configuration: dict[str, Any] | None = None
    """Of a start: what it was started with, secrets masked."""


class History:
    """Owns the file. It never stops a service: what cannot be written is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: What, told: str, configuration: dict[str, Any] | None = None) -> None:
        """Append one event of now."""
        line = msgspec.json.encode(Event(time.time(), what, told, configuration)) + b"\n"
        try:
            with self._path.open("ab") as file:
                file.write(line)
        except OSError:
            return

    def note_start(self, release: str, configuration: dict[str, Any]) -> None:
        """A supervisor begins: how the last one ended, and what is set otherwise since."""
        past = read_history(self._path)
        self._keep(past[-_MOST_EVENTS:])
        last = next((event for event in reversed(past) if event.configuration is not None), None)
        has_ended = not past or past[-1].what == "stopped"
        told = f"release {release}"
        if not has_ended:
            told += "; the run before it ended without a word"
        self.note("started", told, configuration)
        if last is not None and last.configuration is not None:
            for name, before, after in changes(last.configuration, configuration):
                self.note("changed", f"{name}: {before} -> {after}")

    def _keep(self, events: list[Event]) -> None:
        try:
            replace_file(
                self._path, b"".join(msgspec.json.encode(event) + b"\n" for event in events)
            )
        except OSError:
            return


def read_history(path: Path, since: float = 0.0) -> list[Event]:
    """Events since a time (Unix seconds), oldest first; a torn line is passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError:
            continue
        if event.at >= since:
            events.append(event)
    return events


def configuration_of(settings: ServiceSettings) -> dict[str, Any]:
    """All that a service is started with: its settings, and a hash of each declaration."""
    declared = {
        f"{path.parent.name}/{path.name}": _digest(path)
        for path in sorted(settings.policies.glob("*/policy.toml"))
    }
    return settings.model_dump(mode="json") | declared | {"processors": os.cpu_count()}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, before, after) of what differs, by name."""
    return [
        (name, _told(before, name), _told(after, name))
        for name in sorted(before.keys() | after.keys())
        if _told(before, name) != _told(after, name)
    ]


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        return str(error)


def _told(configuration: dict[str, Any], name: str) -> str:
    return str(configuration[name]) if name in configuration else "not there"
