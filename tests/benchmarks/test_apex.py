import numpy as np

from benchmarks.training.apex import Feeder, PlainReplay, random_walk
from training.environments import describe_environment


def test_a_feeder_sends_every_transition_of_a_real_walk_each_time() -> None:
    feeder = Feeder(seed=2)
    walked = random_walk(2, 64, 4)
    for _ in range(2):
        strips, report = feeder.walk_with((0, {}))
        sent = np.concatenate([strip.frames[strip.observations] for strip in strips])
        np.testing.assert_array_equal(sent, walked.observations)
        assert report.num_steps == 256


def test_plain_pushing_stores_what_it_counts() -> None:
    replay = PlainReplay(2, describe_environment("ALE/Pong-v5").observation)
    for value in (1, 2, 3):
        stack = np.full((4, 84, 84), value, np.uint8)
        replay.add(stack, 0, 0.0, stack)
    assert replay.num_added() == 3
    assert replay._observations[:, 0, 0, 0].tolist() == [3, 2]
