"""Writes the JSON that Grafana is provisioned with: `python -m dashboards.grafana.build`."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana.canary import canary
from dashboards.grafana.data_loop import data_loop
from dashboards.grafana.health import health
from dashboards.grafana.marks import marks
from dashboards.grafana.overview import overview

FOLDER: Final = Path(__file__).parent / "dashboards"


def rendered() -> dict[Path, str]:
    """Each dashboard's file and what it must hold."""
    boards = {
        "overview": overview(),
        "health": health(),
        "canary": canary(),
        "data_loop": data_loop(),
    }
    return {
        FOLDER / f"{name}.json": _with_marks(JSONEncoder().encode(each.build()))
        for name, each in boards.items()
    }


def _with_marks(built: str) -> str:
    document = json.loads(built)
    document["annotations"] = {"list": marks()}
    return json.dumps(document, sort_keys=True, indent=2) + "\n"


def main() -> None:
    """Write every file."""
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
