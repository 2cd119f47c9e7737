import json
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from training.episode_log import (
    EPISODES_FILE,
    TENSORBOARD_FOLDER,
    EpisodeLog,
    EpisodeRecord,
)


def record(episode: int, loss: float | None = 0.5) -> EpisodeRecord:
    return EpisodeRecord(
        steps=100 * episode,
        episode=episode,
        episode_return=9.5,
        length=9,
        mean_max_q=2.25,
        epsilon=0.1,
        loss=loss,
        learning_rate=1e-3,
    )


def logged_episodes(out: Path) -> list[int]:
    lines = (out / EPISODES_FILE).read_text().splitlines()
    return [json.loads(line)["episode"] for line in lines]


def test_each_episode_is_one_line_that_gives_the_record_back(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path, tensorboard=False, positions=None)
    log.add_episode(record(1, loss=None))
    log.close()
    line = (tmp_path / EPISODES_FILE).read_text()
    assert EpisodeRecord.model_validate_json(line) == record(1, loss=None)


def test_resuming_cuts_off_what_was_logged_after_the_checkpoint(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path, tensorboard=False, positions=None)
    log.add_episode(record(1))
    positions = log.positions()
    log.add_episode(record(2))
    log.close()
    resumed = EpisodeLog(tmp_path, tensorboard=False, positions=positions)
    resumed.add_episode(record(3))
    resumed.close()
    assert logged_episodes(tmp_path) == [1, 3]


def test_a_new_run_begins_with_an_empty_log(tmp_path: Path) -> None:
    for episode in (1, 2):
        log = EpisodeLog(tmp_path, tensorboard=False, positions=None)
        log.add_episode(record(episode))
        log.close()
    assert logged_episodes(tmp_path) == [2]


def test_tensorboard_gets_each_figure_at_its_step(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path, tensorboard=True, positions=None)
    log.add_episode(record(1, loss=None))
    log.add_episode(record(2))
    log.close()
    events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER)).Reload()
    points = [(point.step, point.value) for point in events.Scalars("episode/mean_max_q")]
    assert points == [(100, 2.25), (200, 2.25)]
    assert [point.step for point in events.Scalars("episode/loss")] == [200]
