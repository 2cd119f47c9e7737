"""Every verb's own help."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Final

from cli.__main__ import VERBS, main
from docs.generate.settings import VERBS_WITH_SETTINGS
from docs.generate.tables import table

COLUMNS: Final = "100"
"""That the variable of this name must say, for help is as wide as the terminal."""


def page() -> str:
    """Every verb's own help."""
    lines = ["# Command line\n", *table(("verb", "does"), _verbs())]
    for name in VERBS:
        if name in VERBS_WITH_SETTINGS:
            continue
        lines += [f"\n## `dqn {name}`\n", *_help_of([name])]
    return "\n".join(lines) + "\n"


def _verbs() -> list[tuple[str, str]]:
    return [
        (f"`dqn {name}`", f"{verb.help} ([settings](settings.md#dqn-{name}))")
        if name in VERBS_WITH_SETTINGS
        else (f"[`dqn {name}`](#dqn-{name})", verb.help)
        for name, verb in VERBS.items()
    ]


def _help_of(words: Sequence[str]) -> Iterator[str]:
    """A verb's help as a block, then that of the verbs below it."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    yield f"```text\n{told.getvalue().strip()}\n```"
    positional = told.getvalue().partition("positional arguments:")[2].partition("\n\n")[0]
    # Verbs below this one are indented farther than arguments are.
    for verb in re.findall(r"^    ([a-z][\w-]*)", positional, re.MULTILINE):
        yield ""
        yield from _help_of([*words, verb])
