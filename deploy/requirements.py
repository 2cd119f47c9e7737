"""Prints what pyproject.toml asks for: the dependencies and those of the extras named."""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Read `<pyproject.toml> <extra>...` from the command line."""
    path, *extras = sys.argv[1:]
    project = tomllib.loads(Path(path).read_text(encoding="utf-8"))["project"]
    chosen = [project["dependencies"], *(project["optional-dependencies"][name] for name in extras)]
    # An extra that names other extras of ours adds nothing that they do not: name them too.
    wanted = [each for group in chosen for each in group if not each.startswith(project["name"])]
    sys.stdout.writelines(f"{each}\n" for each in dict.fromkeys(wanted))


if __name__ == "__main__":
    main()
