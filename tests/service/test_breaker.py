from service.inference.breaker import Breaker


def ask(breaker: Breaker, is_good: bool, now: float) -> bool:
    """Ask for one batch and tell how it went; whether it was allowed."""
    is_allowed = breaker.allows(now)
    if is_allowed:
        breaker.record(is_good, now)
    return is_allowed


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        ask(breaker, False, 100.0)
    return breaker


def state_after(num_bad: int) -> str:
    breaker = Breaker()
    for _ in range(num_bad):
        ask(breaker, False, 100.0)
    return breaker.state


def test_four_bad_batches_in_a_row_are_borne_and_five_are_not() -> None:
    assert (state_after(4), state_after(5)) == ("closed", "open")


def test_more_than_half_bad_of_the_last_twenty_opens_it_and_half_does_not() -> None:
    half, more = Breaker(), Breaker()
    for number in range(20):
        ask(half, number % 2 == 0, 100.0)
        ask(more, number % 2 == 0 and number != 10, 100.0)
    assert (half.state, more.state) == ("closed", "open")


def test_an_open_breaker_asks_nothing_of_the_model_for_five_seconds() -> None:
    breaker = opened()
    assert not breaker.allows(104.9)
    assert breaker.allows(105.0)


def test_one_probe_is_out_at_a_time() -> None:
    breaker = opened()
    assert breaker.allows(105.0)
    assert not breaker.allows(105.0)
    breaker.record(True, 105.1)
    assert breaker.allows(105.1)


def test_three_good_probes_close_it_and_two_do_not() -> None:
    breaker = opened()
    for number in range(3):
        assert breaker.state == ("open" if number == 0 else "half_open")
        assert ask(breaker, True, 106.0)
    assert breaker.state == "closed"


def test_each_bad_probe_doubles_the_pause_up_to_a_minute() -> None:
    breaker, now, pauses = opened(), 100.0, []
    for _ in range(6):
        began_at = now
        while not breaker.allows(now):
            now += 1.0
        breaker.record(False, now)
        pauses.append(now - began_at)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_another_version_starts_with_a_clean_sheet() -> None:
    breaker = opened()
    breaker.reset()
    assert breaker.state == "closed"
    assert ask(breaker, False, 100.0)
    assert breaker.state == "closed"
