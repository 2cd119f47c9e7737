"""What wrk prints, read."""

import pytest

from benchmarks.serving.load import LoadError, read_wrk

PRINTED = """Running 2s test @ http://127.0.0.1:8000/v1/actions
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.21ms    4.66ms  30.50ms   71.46%
    Req/Sec     1.13k   302.32     1.81k    80.00%
  Latency Distribution
     50%  770.00us
     75%    1.25ms
     90%    2.95ms
     99%    1.45s
  1000 requests in 2.00s, 235.67KB read
  Socket errors: connect 1, read 2, write 4, timeout 8
  Non-2xx or 3xx responses: 100
Requests/sec:    500.00
Transfer/sec:    117.83KB
"""


def test_refused_requests_are_no_throughput() -> None:
    # 500 is what wrk itself calls the rate.
    assert read_wrk(PRINTED, 1.0).requests_per_second == 450.0


def test_every_kind_of_failure_is_counted() -> None:
    assert read_wrk(PRINTED, 1.0).failures == 100 + 1 + 2 + 4 + 8


def test_percentiles_keep_their_units() -> None:
    load = read_wrk(PRINTED, 1.0)
    assert load.p50_seconds == pytest.approx(0.00077)
    assert load.p99_seconds == 1.45


def test_refused_requests_cost_cpu_too() -> None:
    assert read_wrk(PRINTED, 3.0).cpu_seconds_per_request == 0.003


def test_a_server_that_refuses_everything_is_an_error() -> None:
    with pytest.raises(LoadError, match="no request was answered"):
        read_wrk(PRINTED.replace("responses: 100", "responses: 1000"), 1.0)
