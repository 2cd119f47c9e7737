import numpy as np
import pytest

from contract.bundle import BundleError
from contract.manifest import RewardTransform
from exporter.manifest import check_divergence, largest_possible_q, q_bound
from tests.exporter.checkpoints import metadata, moments
from training.moments import Moments


def possible(minimum: float, maximum: float, transform: RewardTransform, discount: float) -> object:
    statistics = metadata().statistics.model_copy(update={"rewards": moments(minimum, maximum)})
    return largest_possible_q(
        metadata(statistics=statistics, reward_transform=transform, discount=discount)
    )


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (RewardTransform(), 300 / 0.1),
        (RewardTransform(clip=40), 40 / 0.1),
        (RewardTransform(clip=40, scale=0.5), 20 / 0.1),
    ],
)
def test_what_is_possible_is_the_largest_transformed_reward_for_ever(
    transform: RewardTransform, expected: float
) -> None:
    assert possible(-300, 200, transform, 0.9) == pytest.approx(expected)


def test_without_a_discount_there_is_no_bound() -> None:
    assert possible(1, 1, RewardTransform(), 1.0) is None


def test_rewards_of_zero_alone_give_no_bound() -> None:
    assert possible(0, 0, RewardTransform(), 0.9) is None


def test_without_a_reward_there_is_no_bound() -> None:
    nothing = Moments(count=0, mean=None, sd=None, minimum=None, maximum=None)
    statistics = metadata().statistics.model_copy(update={"rewards": nothing})
    assert largest_possible_q(metadata(statistics=statistics)) is None


@pytest.mark.parametrize(("met", "bound"), [(60.0, 105.0), (120.0, 126.0)])
def test_the_bound_gives_what_is_possible_and_what_was_met_a_margin(
    met: float, bound: float
) -> None:
    assert q_bound(100.0, met) == pytest.approx(bound)
    assert q_bound(None, met) is None


@pytest.mark.parametrize(("num_beyond", "refused"), [(2, False), (3, True)])
def test_a_network_far_beyond_what_is_possible_in_a_thousandth_of_its_rows_is_refused(
    num_beyond: int, refused: bool
) -> None:
    q_values = np.full((2000, 2), 290, dtype=np.float32)
    q_values[:num_beyond, 1] = -301
    if refused:
        with pytest.raises(BundleError, match="diverged"):
            check_divergence(100.0, q_values)
    else:
        check_divergence(100.0, q_values)
    check_divergence(None, q_values)
