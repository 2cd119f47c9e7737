import io

from rich.console import Console

from training.episode_log import EpisodeRecord
from training.progress import TrainingProgress


def record(episode_return: float) -> EpisodeRecord:
    return EpisodeRecord(
        steps=500,
        episode=1,
        episode_return=episode_return,
        length=9,
        mean_max_q=2.25,
        epsilon=0.125,
        loss=0.0625,
        learning_rate=1e-3,
    )


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_bar_shows_every_figure_of_the_run() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    progress = TrainingProgress(1_000, console)
    progress.show(500, [record(10.0), record(30.0)])
    progress.close()
    for figure in (
        "return 20.0",
        "epsilon 0.12",
        "loss 0.0625",
        "mean max-Q 2.2",
        "steps/s",
        "50%",
    ):
        assert figure in shown(console)


def test_lines_on_no_terminal_come_by_the_clock_and_not_by_the_round() -> None:
    seconds = iter([0.0, 4.9, 5.0])
    console = Console(file=io.StringIO(), width=200)
    progress = TrainingProgress(1_000, console, clock=lambda: next(seconds))
    progress.show(100, [record(10.0)])
    assert shown(console) == ""
    progress.show(500, [record(30.0)])
    assert shown(console) == (
        "step 500 of 1,000: return 20.0, epsilon 0.12, loss 0.0625, mean max-Q 2.2, "
        "100 steps/s, 5 s left at most\n"
    )
