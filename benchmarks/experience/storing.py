"""Playing a game into a dataset, and reading it back. In a module that a child can import."""

import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.experience.atari import play
from benchmarks.experience.reading import ReadingResult, read_at_random, read_in_order
from recorder.dataset.assembly import Assembler
from recorder.dataset.manifest import PartManifest
from recorder.dataset.parts import PartWriter
from recorder.dataset.store import DatasetStore


class Stored(NamedTuple):
    """What writing one game's dataset came to."""

    game: str
    parts: list[PartManifest]
    cpu_seconds: float
    """Of packing and sealing, without the game."""


class GameResult(NamedTuple):
    """What one game's dataset came to."""

    game: str
    parts: list[PartManifest]
    write_cpu_seconds: float
    in_order: ReadingResult
    at_random: ReadingResult

    @property
    def transitions(self) -> int:
        """That are stored."""
        return sum(part.num_steps for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Of all files, manifests aside."""
        return sum(part.size_bytes for part in self.parts)


def store_game(game: str, num_transitions: int, root: Path, seed: int) -> Stored:
    """Play and store."""
    assembler = Assembler()
    writer = PartWriter(DatasetStore(root), created_at=time.time())
    parts: list[PartManifest] = []
    spent = 0.0
    for item in play(game, num_transitions, seed):
        begin = time.process_time()
        for packed in assembler.add(item):
            parts += writer.seal((), writer.add(packed))
        spent += time.process_time() - begin
    begin = time.process_time()
    parts += writer.seal(())
    spent += time.process_time() - begin
    return Stored(game, parts, spent)


def read_back(stored: Stored, root: Path, random_batches: int) -> GameResult:
    """Read what was stored, in order and at random."""
    return GameResult(
        stored.game,
        stored.parts,
        stored.cpu_seconds,
        read_in_order(root, stored.game),
        read_at_random(root, stored.game, random_batches),
    )
