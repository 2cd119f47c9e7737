import subprocess
import sys
from pathlib import Path

import pytest

from cli import retrain

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
