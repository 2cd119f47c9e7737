"""How Atari may be played: what can be said without its emulator."""

from pydantic import Field, PositiveInt

from contract.declaration import Record
from contract.frames import ScreenPreprocessing

NEXT_LIFE = "next_life_observation"
"""In `info` where a life was lost and ends what is learned from: the next one's first."""

FRAME_STACK = 4
"""Frames of an Atari observation."""


class AtariOptions(Record):
    """What may be chosen of the customary preprocessing."""

    frame_skip: PositiveInt = 4
    """Screens that an action holds for."""

    max_noops: int = Field(default=30, ge=0)
    """An episode begins with 1 to this many idle screens; 0 is none."""

    sticky: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a screen gets the last action again (Machado et al., 2018)."""

    life_loss: bool = True
    """Whether a lost life terminates what is learned from; evaluations always play whole games."""

    max_screens: PositiveInt = 108_000
    """Screens after which a game is truncated: half an hour."""

    crop_top: int = Field(default=0, ge=0)
    """Rows cut off the top of the screen."""

    crop_bottom: int = Field(default=0, ge=0)
    """Rows cut off its bottom."""

    @property
    def preprocessing(self) -> ScreenPreprocessing:
        """From a step's screens to its frame; an agent that is served does the same."""
        return ScreenPreprocessing(crop_top=self.crop_top, crop_bottom=self.crop_bottom)
