import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.drift_reference import DriftReference, make_columns
from service.metrics import Metrics
from service.monitoring.drift import Drift, DriftRules
from service.monitoring.drift_window import DriftWindow
from tests.builders import BIAS, WEIGHTS, profile, write_policy
from tests.service.asking import Asking

RNG = np.random.default_rng(5)
REFERENCE = DriftReference(
    observations=make_columns(RNG.standard_normal((20_000, 4)), np.full(2_000, 10)),
    features=make_columns(RNG.standard_normal((20_000, 3)), np.full(2_000, 10)),
    q_values=make_columns(10 + RNG.standard_normal((20_000, 2)), np.full(2_000, 10)),
)
WITHOUT_FEATURES = REFERENCE.model_copy(update={"features": ()})


class Watched:
    """A drift monitor whose windows hold 400 rows, and what it published."""

    def __init__(self, reference: DriftReference | None = REFERENCE) -> None:
        self.num_published = 0
        rules = DriftRules(window_rows=400, window_seconds=400.0)
        self.drift = Drift("cartpole", rules, np.random.default_rng(6), self._count)
        self.drift.begin_version(reference)

    def _count(self, drift: Drift) -> None:
        self.num_published += 1

    def live(
        self, num_rows: int = 400, *, shifted: int | None = None, q_factor: float = 1.0
    ) -> None:
        """Sample rows as in training, save one observation shifted by an sd or Q-values scaled."""
        for _ in range(num_rows):
            observations = RNG.standard_normal((1, 4))
            if shifted is not None:
                observations[0, shifted] += 1.0
            q_values = (q_factor * (10 + RNG.standard_normal((1, 2)))).astype(np.float32)
            features = RNG.standard_normal((1, 3)).astype(np.float32)
            self.drift.sample(observations, features, q_values)


def test_what_looks_as_it_did_alarms_nothing() -> None:
    watched = Watched()
    watched.live(4 * 400)
    assert watched.drift.report.num_alarming == 0
    assert len(watched.drift.report.findings) == 9
    assert all(finding.statistic < finding.limit for finding in watched.drift.report.findings)


def test_a_shifted_sensor_is_told_with_the_first_full_window_and_named() -> None:
    watched = Watched()
    watched.live(399, shifted=2)
    assert watched.drift.report.findings == ()
    watched.live(1, shifted=2)
    assert watched.drift.report.worst == ("observation[2]",)
    assert watched.drift.describe()["drifted"] == ["observation[2]"]


def test_exploding_q_values_are_told_as_such() -> None:
    watched = Watched()
    watched.live(q_factor=1.5)
    assert set(watched.drift.report.worst) == {"q_value[0]", "q_value[1]"}


def test_the_finding_of_a_signal_is_the_column_nearest_to_its_limit() -> None:
    watched = Watched()
    watched.live(shifted=3)
    found = {(each.signal, each.test): each for each in watched.drift.report.findings}
    assert found["observation", "level"].column == 3
    assert found["observation", "level"].statistic > found["observation", "level"].limit
    assert found["feature", "level"].statistic < found["feature", "level"].limit


def test_a_window_without_drift_ends_the_alarm() -> None:
    watched = Watched()
    watched.live(shifted=2)
    watched.live(8 * 400)
    assert watched.drift.report.num_alarming == 0


def test_a_bundle_without_a_reference_is_not_armed_and_never_sampled() -> None:
    watched = Watched(None)
    assert not watched.drift.is_armed
    assert not watched.drift.wants(10_000, now=1e9)
    assert watched.drift.describe()["armed"] is False


def test_features_are_asked_for_only_where_they_are_judged() -> None:
    assert Watched().drift.needs_features
    assert not Watched(WITHOUT_FEATURES).drift.needs_features


def test_another_version_begins_with_an_empty_window() -> None:
    watched = Watched()
    watched.live(399, shifted=2)
    watched.drift.begin_version(REFERENCE)
    watched.live(399)
    assert watched.drift.report.findings == ()
    watched.live(1)
    assert watched.drift.report.num_alarming == 0


def test_a_row_that_is_not_finite_is_left_out() -> None:
    watched = Watched()
    broken = np.full((1, 2), np.nan, dtype=np.float32)
    watched.drift.sample(np.zeros((1, 4)), np.zeros((1, 3), dtype=np.float32), broken)
    watched.live(399)
    assert watched.drift.report.findings == ()


def test_one_row_in_fifty_is_sampled_where_rows_are_few() -> None:
    drift = Watched().drift
    sampled = sum(drift.wants(1, now=10.0 * step) for step in range(50_000))
    assert sampled == pytest.approx(1_000, rel=0.1)


def test_no_window_fills_faster_than_it_may_however_many_rows_there_are() -> None:
    drift = Watched().drift
    # A window of 400 rows in 400 seconds: one row a second.
    assert sum(drift.wants(1_000, now=step / 100) for step in range(10_000)) == 100


def test_more_columns_raise_the_bar_for_each() -> None:
    few = DriftWindow(REFERENCE.features, 3, 400)
    many = DriftWindow(REFERENCE.features, 3_000, 400)
    few.add(np.zeros((400, 3)))
    many.add(np.zeros((400, 3)))
    for test, scores in few.close().items():
        assert (many.close()[test].limits > scores.limits).all()
        many.add(np.zeros((400, 3)))


def test_a_drift_too_slow_for_any_window_is_told_by_the_trend() -> None:
    window = DriftWindow(REFERENCE.features, 3, 2_000)
    rng = np.random.default_rng(7)
    told = []
    for _ in range(40):
        window.add(rng.standard_normal((2_000, 3)) + 0.045)
        told.append({test for test, scores in window.close().items() if scores.ratios.max() >= 1})
    assert told[:5] == [set()] * 5
    assert told[-1] == {"trend"}


def test_each_publication_follows_a_version_or_a_full_window() -> None:
    watched = Watched()
    assert watched.num_published == 2
    watched.live(800)
    assert watched.num_published == 4


def served(folder: Path, *, is_armed: bool = True, shift: float = 0.0) -> tuple[Any, Metrics]:
    """What `/v1/policies` and the metrics tell after two windows of 200 rows behind a batcher.

    The policy is linear and its features are the first three elements of the observation.
    """

    async def live() -> tuple[Any, Metrics]:
        asking = Asking(folder, drift_rules=DriftRules(window_rows=200, window_seconds=1e-6))
        rng = np.random.default_rng(10)
        armed = profile(drift=_linear_reference() if is_armed else None)
        asking.serve(write_policy(folder, profile=armed, num_features=3))
        for _ in range(1_000):
            await asking.answer(rng.standard_normal((100, 4)) + np.array([0, 0, 0, shift]))
        told = asking.served.describe()["drift"]
        await asking.logged()
        return told, asking.metrics

    return asyncio.run(live())


def _linear_reference() -> DriftReference:
    observations = np.random.default_rng(11).standard_normal((20_000, 4)).astype(np.float32)
    lengths = np.full(2_000, 10)
    q_values = observations @ np.array(WEIGHTS, dtype=np.float32).T + np.array(BIAS, np.float32)
    return DriftReference(
        observations=make_columns(observations, lengths),
        features=make_columns(observations[:, :3], lengths),
        q_values=make_columns(q_values, lengths),
    )


def told_by(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"policy": "cartpole", **labels})


def test_a_batcher_lets_observations_features_and_q_values_be_judged(tmp_path: Path) -> None:
    told, metrics = served(tmp_path)
    assert told["armed"] is True
    assert told["watched"] == {"observation": 4, "feature": 3, "q_value": 2}
    assert told["num_drifted"] == 0
    for signal in ("observation", "feature", "q_value"):
        labels = {"signal": signal, "test": "level"}
        score = told_by(metrics, "dqn_drift_score", **labels)
        limit = told_by(metrics, "dqn_drift_threshold", **labels)
        assert score is not None
        assert limit is not None
        assert score < limit
    assert told_by(metrics, "dqn_drift_armed") == 1.0


def test_a_sensor_that_shifts_behind_a_batcher_is_named_and_counted(tmp_path: Path) -> None:
    told, metrics = served(tmp_path, shift=1.0)
    # The features are of the others; both Q-values hang on this one.
    assert told["drifted"][0] == "observation[3]"
    assert not any(name.startswith("feature") for name in told["drifted"])
    assert told_by(metrics, "dqn_drift_features_alarming") == told["num_drifted"]


def test_an_adopted_bundle_tells_that_it_is_not_armed(tmp_path: Path) -> None:
    told, metrics = served(tmp_path, is_armed=False)
    assert told == {"armed": False, "watched": {}, "drifted": [], "num_drifted": 0}
    assert told_by(metrics, "dqn_drift_armed") == 0.0
    labels = {"signal": "observation", "test": "level"}
    assert np.isnan(told_by(metrics, "dqn_drift_threshold", **labels) or 0.0)
