"""How far back a verb looks, as a person writes it."""

import argparse
import re
from typing import Final

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def ago(text: str) -> float:
    """Seconds of `90s`, `2h` or `7d`; argparse tells its user where it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 2h or 7d, found {text!r}")
    return float(match[1]) * _SECONDS[match[2]]
