"""`dqn report`: what runs came to, as Markdown with pictures.

    dqn report data/training/a data/training/b --out data/reports/mine

One run gets a report of its own: its figures, settings and versions, its curve, and its Q-values
against the returns that came. Several are compared as well: seeds of one preset make one curve
with a confidence band.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import CliApp, CliPositionalArg
from rich.console import Console

from training.actor import q_function
from training.checkpoint import BEST, Checkpoint, CheckpointError, read_checkpoint
from training.curves import (
    calibration_of,
    interquartile_mean,
    learning_curve,
    read_evaluations,
    stratified_bootstrap,
)
from training.episode_log import EPISODES_FILE, EpisodeRecord, EvaluationRecord
from training.evaluate import play
from training.flags import Flags
from training.pictures import draw_calibration, draw_comparison, draw_curves, draw_run

REPORT_FILE = "report.md"
_EXIT_MISUSED = 2


class ReportConfig(Flags):
    """Write a report of one or several runs."""

    runs: CliPositionalArg[list[Path]] = Field(min_length=1)
    """Folders of runs, as `dqn train` leaves them."""

    out: Path
    """Folder of the report."""

    episodes: PositiveInt = 20
    """Greedy episodes that Q-values are held against."""

    seed: int = Field(default=0, ge=0)
    """Of those episodes and of the confidence bands."""


def write_report(config: ReportConfig) -> Path:
    """Write pictures and `report.md`; its path.

    Raises:
        CheckpointError: A run has no best checkpoint.
        ValueError: A run has no evaluations.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    sections = ["# Report"]
    if len(config.runs) > 1:
        sections.append(_comparison(config))
    for number, run in enumerate(config.runs):
        sections.append(_run_section(config, run, config.out / f"run-{number}"))
    path = config.out / REPORT_FILE
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def read_episodes(run: Path) -> list[EpisodeRecord]:
    """The episodes of a run's folder, oldest first."""
    lines = (run / EPISODES_FILE).read_text(encoding="utf-8").splitlines()
    return [EpisodeRecord.model_validate_json(line) for line in lines]


def _comparison(config: ReportConfig) -> str:
    rng = np.random.default_rng(config.seed)
    groups: dict[str, list[list[EvaluationRecord]]] = {}
    for run in config.runs:
        name = _name_of(read_checkpoint(run / BEST))
        groups.setdefault(name, []).append(read_evaluations(run))
    draw_curves(
        {name: learning_curve(runs, rng) for name, runs in groups.items()},
        "Evaluations along the runs",
        config.out / "curves.png",
    )
    finals = {
        name: [max(record.mean_return for record in run) for run in runs]
        for name, runs in groups.items()
    }
    scores = {
        name: (interquartile_mean(best), *stratified_bootstrap([best], rng))
        for name, best in finals.items()
    }
    draw_comparison(scores, "Best evaluation of each seed", config.out / "comparison.png")
    rows = [
        [name, str(len(finals[name])), f"{value:.1f}", f"{low:.1f} to {high:.1f}"]
        for name, (value, low, high) in scores.items()
    ]
    return "\n\n".join(
        [
            "## Comparison",
            _table(["preset", "seeds", "best evaluation, interquartile mean", "95 %"], rows),
            "![learning curves](curves.png)",
            "![comparison](comparison.png)",
        ]
    )


def _run_section(config: ReportConfig, run: Path, pictures: Path) -> str:
    checkpoint = read_checkpoint(run / BEST)
    metadata = checkpoint.metadata
    evaluations = read_evaluations(run)
    draw_run(read_episodes(run), evaluations, pictures.with_suffix(".png"))
    episodes = play(
        q_function(checkpoint.network),
        metadata.environment_id,
        config.episodes,
        epsilon=0.0,
        seed=config.seed,
    )
    calibration = calibration_of(episodes, metadata.discount, metadata.reward_transform)
    calibration_picture = Path(f"{pictures}-calibration.png")
    draw_calibration(calibration, "Q-values against what came", calibration_picture)
    returns = [float(episode.rewards.sum()) for episode in episodes]
    figures = [
        ["mean return, greedy", f"{np.mean(returns):.1f} over {len(returns)} episodes"],
        ["lowest return", f"{min(returns):.1f}"],
        ["mean(Q - G) / sd(G)", f"{calibration.bias:+.3f}"],
        ["steps, updates", f"{metadata.steps:,}, {metadata.updates:,}"],
        ["CPU time", f"{metadata.cpu_seconds:.0f} s"],
        ["seed", str(metadata.seed)],
        ["revision", metadata.git_revision or "outside a checkout"],
        ["versions", ", ".join(f"{name} {of}" for name, of in metadata.versions.items())],
    ]
    settings = [[name, f"`{value}`"] for name, value in sorted(_settings_of(checkpoint).items())]
    return "\n\n".join(
        [
            f"## {_name_of(checkpoint)}, seed {metadata.seed}",
            _table(["figure", "value"], figures),
            f"![the run]({pictures.name}.png)",
            f"![Q-values against returns]({calibration_picture.name})",
            "<details><summary>Settings</summary>",
            _table(["setting", "value"], settings),
            "</details>",
        ]
    )


def _name_of(checkpoint: Checkpoint) -> str:
    """The preset that a run was made from, else its environment."""
    preset = checkpoint.metadata.config.get("preset")
    return checkpoint.metadata.environment_id if preset is None else str(preset)


def _settings_of(checkpoint: Checkpoint) -> dict[str, Any]:
    # Where a run lay on somebody's disk tells nobody anything.
    return {name: value for name, value in checkpoint.metadata.config.items() if name != "out"}


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Run `dqn report`. Returns the exit status."""
    torch.set_num_threads(1)
    try:
        path = write_report(CliApp.run(ReportConfig, cli_args=list(arguments)))
    except (ValidationError, CheckpointError, ValueError) as error:
        Console(stderr=True, markup=False, highlight=False).print(f"error: {error}", style="red")
        return _EXIT_MISUSED
    Console().print(f"written to {path}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
