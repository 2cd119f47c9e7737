from benchmarks.readme import (
    README,
    drill_table,
    goals_table,
    refreshed,
    serving_table,
    training_table,
)


def figure(name: str, value: float, **changes: object) -> dict[str, object]:
    empty = {"unit": "1/s", "goal": None, "rival": None, "ratio": None, "met": None}
    return {"figure": name, "value": value, **empty, **changes}


RESULT = {
    "command": "python -m benchmarks.serving",
    "figures": [
        figure("mlp, 1 connection: requests/s", 3000.0, rival="mosec 1,000 1/s, p50", ratio=3.0),
        figure("mlp, 1 connection: requests/s", 3000.0),
        figure("mlp, 1 connection: p50", 0.25, unit="ms", goal="at most 0.35", met=True),
        figure("mlp, 1 connection: p99", 12.5, unit="ms", goal="at most 6", met=False),
    ],
}


def test_the_readme_says_what_the_result_files_say() -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme.count("<!-- figures:") == readme.count("<!-- end of figures -->") > 0
    assert refreshed(readme) == readme


def test_a_load_stands_beside_its_rivals() -> None:
    assert serving_table({"serving": RESULT}).splitlines()[2] == (
        "| mlp, 1 connection | 3,000 | 0.25 ms | 12.5 ms | 1,000 (3x) |"
    )


def test_a_missed_goal_is_not_hidden() -> None:
    assert goals_table({"serving": RESULT}).splitlines()[2] == (
        "| `python -m benchmarks.serving` | 1 of 2 | mlp, 1 connection: p99: 12.5 ms (at most 6) |"
    )


def test_an_incident_stands_with_its_alerts_its_answers_and_its_rollout() -> None:
    trial, refused = "the meltdown: a canary", "NaN"
    figures = [
        figure(f"{trial}: CanaryTakenOff, from crossing", 0.84),
        figure(f"{trial}: CanaryTakenOff, from fault", 1.9),
        figure(f"{trial}: CanaryTakenOff, finished episodes", 3),
        figure(f"{trial}: by the model", 0.75),
        figure(f"{trial}: by the heuristic, q_bound", 0.25),
        figure(f"{trial}: rollout rolled back after 2.0 s: guardrail q_bound", 1),
        figure(f"{refused}: refused", 409),
        figure(f"{refused}: by the model", 1.0),
        figure(f"{refused}: rollout no trial", 0),
    ]
    assert drill_table({"drill": {"figures": figures}}).splitlines()[2:] == [
        "| the meltdown: a canary | `CanaryTakenOff` 0.8 s, 1.9 s | 3 | "
        "model 75.0%, q_bound 25.0% | rolled back after 2.0 s |",
        "| NaN | refused at once |  | model 100.0% | no trial |",
    ]


def test_training_is_told_with_its_goals_rivals_and_misses() -> None:
    figures = [
        figure("Pong", 55.04, goal="at least 1.3 times", rival="SB3: 42.4", ratio=1.298, met=False),
        figure("no goal", 1.0),
        figure("a million, raw", 7.0656, unit="GB", goal="at most 7.1", met=True),
    ]
    assert training_table({"training": {"figures": figures}}).splitlines()[2:] == [
        "| Pong | 55 1/s (1.3x) | at least 1.3 times (missed) | SB3: 42.4 |",
        "| a million, raw | 7.07 GB | at most 7.1 |  |",
    ]
