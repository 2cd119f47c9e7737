"""Writes `docs/reference/` from the code.

python -m docs.generate          # writes
python -m docs.generate --check  # 1 where what is written is out of date
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from docs.generate import command_line, http, metrics, settings

FOLDER: Final = Path(__file__).parents[1] / "reference"
PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings.md": settings.page,
    "metrics.md": metrics.page,
    "http.md": http.page,
    "cli.md": command_line.page,
}
_WRITTEN: Final = "<!-- Written by python -m docs.generate. -->\n"


def text_of(name: str) -> str:
    """What a page must hold."""
    return _WRITTEN + PAGES[name]()


def main(arguments: Sequence[str]) -> int:
    """Write every page, or say which are out of date."""
    os.environ["COLUMNS"] = command_line.COLUMNS
    if arguments == ["--check"]:
        stale = [name for name in PAGES if (FOLDER / name).read_text("utf-8") != text_of(name)]
        sys.stdout.writelines(f"{name} is out of date\n" for name in stale)
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
