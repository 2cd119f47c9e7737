"""Our bets beside those of `confseq`, in an environment of its own.

Its compiled boundaries need Boost; its bets are plain Python for numpy 1, taken from its source.
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from contract.evidence import STAKES
from contract.sequential import Wagers

_RELEASE = "0.0.11"
_PROGRAM = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from confseq.betting import diversified_betting_mart
asked = json.load(sys.stdin)
found = []
for xs in asked["streams"]:
    x = np.array(xs)
    fns = [lambda x, m, stake=stake: np.repeat(stake, len(x)) for stake in asked["stakes"]]
    wealth = diversified_betting_mart(
        x, 0.5, lambdas_fns_positive=fns, theta=1, convex_comb=True, trunc_scale=1
    )
    found.append(np.log(wealth).tolist())
print(json.dumps(found))
"""


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_our_wealth_is_that_of_confseq_after_every_observation(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    _uv("venv", "--python", sys.executable, "--seed", str(environment))
    python = str(environment / "bin" / "python")
    _uv("pip", "install", "--python", python, "numpy<2", "scipy", "matplotlib", "multiprocess")
    download = ["download", "--quiet", "--no-deps", "--no-binary", "confseq"]
    wanted = [f"confseq=={_RELEASE}", "--dest", str(tmp_path)]
    subprocess.run([python, "-m", "pip", *download, *wanted], check=True)
    (archive,) = tmp_path.glob("confseq-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    source = archive.with_name(archive.name.removesuffix(".tar.gz")) / "src"

    generator = np.random.default_rng(6)
    streams = [generator.beta(a, b, 200).tolist() for a, b in ((2, 2), (3, 2), (0.3, 0.3))]
    stakes = [stake / 0.5 for stake in STAKES]
    asked = json.dumps({"streams": streams, "stakes": stakes})
    done = subprocess.run(
        [python, "-c", _PROGRAM, str(source)], input=asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for stream, theirs in zip(streams, json.loads(done.stdout), strict=True):
        ours = Wagers(stakes)
        for value, wealth in zip(stream, theirs, strict=True):
            ours.bet(value - 0.5)
            assert ours.log_evidence == pytest.approx(wealth, abs=1e-9)
