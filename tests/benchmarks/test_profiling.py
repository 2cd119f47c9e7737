"""Samples added up."""

from benchmarks.serving.profiling import only_python, read_stacks, tabulate

LINES = [
    "main (app.py:1);work (app.py:10);memcpy (libc.so.6) 6",
    "main (app.py:1);work (app.py:20) 3",
    "main (app.py:2);work (app.py:20);work (app.py:30) 1",
]


def test_lines_of_one_function_are_one_function() -> None:
    assert read_stacks(LINES)["main (app.py)", "work (app.py)"] == 3


def test_a_function_that_calls_itself_is_counted_once() -> None:
    table = tabulate(read_stacks(LINES))
    assert "  40.0%  100.0%  work (app.py)" in table


def test_time_in_c_falls_to_the_python_that_called_it() -> None:
    stacks = only_python(read_stacks(LINES))
    assert stacks["main (app.py)", "work (app.py)"] == 9
