"""Writes the JSON that Grafana is provisioned with: `python -m dashboards.grafana.build`."""

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana.canary import canary
from dashboards.grafana.data_loop import data_loop
from dashboards.grafana.health import health
from dashboards.grafana.overview import overview

FOLDER: Final = Path(__file__).parent / "dashboards"


def rendered() -> dict[Path, str]:
    """Each dashboard's file and what it must hold."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    boards = {
        "overview": overview(),
        "health": health(),
        "canary": canary(),
        "data_loop": data_loop(),
    }
    return {
        FOLDER / f"{name}.json": encoder.encode(each.build()) + "\n"
        for name, each in boards.items()
    }


def main() -> None:
    """Write every file."""
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
