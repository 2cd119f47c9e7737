import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli import retrain
from contract.join import JoinRules
from dqn_client import Client
from recorder.dataset.store import DatasetStore
from retraining.config import RetrainConfig
from retraining.cycle import Cycle
from retraining.metrics import RetrainingMetrics
from retraining.state import CycleError, HeldError

ROOT = Path(__file__).parents[2]


def test_a_retraining_process_is_idle_and_bounded() -> None:
    code = (
        "import os, resource\n"
        "from cli.retrain import stand_back\n"
        "stand_back(3 * 1024**3)\n"
        "print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE,"
        " resource.getrlimit(resource.RLIMIT_DATA)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["19", "True", str(3 * 1024**3)]


def test_the_session_of_a_retraining_process_yields_to_those_of_others() -> None:
    code = (
        "from pathlib import Path\n"
        "from cli.retrain import stand_back\n"
        "stand_back(3 * 1024**3)\n"
        "path = Path('/proc/self/autogroup')\n"
        "print(path.read_text() if path.exists() else 'nice 19')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.stdout.strip().endswith("nice 19")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--policy", "pole"], "expected --once or --every"),
        (["--policy", "pole", "--every", "soon"], "expected a duration such as 6h"),
        (["--policy", "pole", "--once", "--key-file", "/nowhere/key"], "/nowhere/key"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert retrain.main([*flags, "--data", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_cycle_waits_for_the_recorder_that_builds_its_dataset(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    store = DatasetStore(tmp_path / "datasets")
    config = RetrainConfig(policy="pole", data=tmp_path)
    is_built = threading.Event()

    def build() -> None:
        retrain.build_when_free(config, JoinRules())
        is_built.set()

    thread = threading.Thread(target=build)
    with store.only_writer("pole"):
        thread.start()
        assert not is_built.wait(0.3)
    thread.join(30)
    assert is_built.is_set()


@pytest.mark.parametrize(
    ("error", "status", "failures"),
    [(HeldError("version 2 is on trial"), 0, 0.0), (CycleError("no checkpoint"), 1, 1.0)],
)
def test_a_cycle_that_a_trial_holds_has_not_failed(
    error: CycleError, status: int, failures: float, tmp_path: Path
) -> None:
    metrics = RetrainingMetrics("pole")

    def refuse() -> None:
        raise error

    with Client("http://127.0.0.1:9") as client:
        cycle = Cycle(
            RetrainConfig(policy="pole", data=tmp_path), client, lambda: 0.0, lambda _: None
        )
        assert retrain.run_once(cycle, metrics, refuse) == status
    labels = {"policy": "pole", "outcome": "failed"}
    assert metrics.registry.get_sample_value("dqn_retrain_runs_total", labels) == failures
