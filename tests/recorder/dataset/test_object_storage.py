"""Datasets and archives in a bucket, through s3fs and over HTTP, as `dqn` keeps them there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from recorder.dataset.store import DatasetStore
from recorder.shards import raw_folder
from tests.builders import POLICY, outcome
from tests.docs.pages import free_ports
from tests.recorder.dataset.episodes import NOW, Log, episode_records
from tests.recorder.records import sealed_rewards
from tests.recorder.test_seal import spool
from tests.service.running import wait_until

ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / ".venv-s3"
REQUIREMENTS = ("moto[server]==5.2.5", "s3fs>=2025.9")
"""moto answers as S3 does, in memory."""

Dqn = Callable[..., str]


def install() -> Path:
    """An environment that has what ours has, and these; its interpreter."""
    python = ENVIRONMENT / "bin" / "python"
    note = ENVIRONMENT / "requirements.json"
    if not note.exists() or json.loads(note.read_text()) != list(REQUIREMENTS):
        uv = (sys.executable, "-m", "uv", "--quiet")
        subprocess.run(
            [*uv, "venv", "--clear", "--python", sys.executable, ENVIRONMENT], check=True
        )
        subprocess.run([*uv, "pip", "install", "--python", python, *REQUIREMENTS], check=True)
        (packages,) = ENVIRONMENT.glob("lib/*/site-packages")
        ours = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "ours.pth").write_text("\n".join([*ours, str(ROOT)]))
        # Written last: an install that broke off is not taken for one that is there.
        note.write_text(json.dumps(REQUIREMENTS))
    return python


@pytest.fixture
def dqn() -> Iterator[Dqn]:
    """`dqn …` with a bucket called `bucket`; what it printed."""
    python, port = install(), free_ports()["8000"]
    url = f"http://127.0.0.1:{port}"
    variables = os.environ | {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [python, "-m", "cli", *arguments],
            env=variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        wait_until(lambda: _makes_bucket(f"{url}/bucket"), "the store answers")
        yield run
    finally:
        server.terminate()
        server.wait(60)


def _makes_bucket(url: str) -> bool:
    try:
        return httpx.put(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_dataset_in_a_bucket_is_built_on_shown_quarantined_and_exported(
    tmp_path: Path, dqn: Dqn
) -> None:
    where = (f"--data={tmp_path}", "--datasets=s3://bucket/some/datasets")

    log = Log(tmp_path / "shards")
    for name in ("e0", "e1"):
        log.seal(episode_records(name, [1.0, 2.0], begin=NOW))
        dqn("dataset", "build", *where)
    left_out = ("--from=2033-05-18T00:00:00Z", "--to=2033-05-19T00:00:00Z", "--episode=e1")
    dqn("dataset", "quarantine", *where, *left_out, "--why=a loop", POLICY)
    shown = json.loads(dqn("dataset", "show", *where, "--json", POLICY))
    assert shown["num_episodes"] == 2
    assert [each["episode_id"] for each in shown["quarantines"]] == ["e1"]
    out = tmp_path / "table.parquet"
    dqn("dataset", "export", *where, f"--out={out}", POLICY)
    assert out.stat().st_size > 0
    assert DatasetStore(tmp_path / "datasets").policies() == []


@pytest.mark.slow
def test_a_spool_is_put_away_into_a_bucket_and_taken_back(tmp_path: Path, dqn: Dqn) -> None:
    folder = spool(
        tmp_path / "spool" / "gone", *(outcome(float(n), decision_id="d") for n in range(3))
    )
    shards = f"--shards={tmp_path / 'shards'}"
    dqn("spool", shards, "seal", str(folder), "--to=s3://bucket/archive")
    assert not (tmp_path / "shards").exists()
    dqn("spool", shards, "drain", "s3://bucket/archive")
    assert sorted(sealed_rewards(raw_folder(tmp_path / "shards", POLICY))) == [0.0, 1.0, 2.0]
    assert "0 records" in dqn("spool", shards, "drain", "s3://bucket/archive")


def test_a_url_that_nothing_knows_is_told_and_not_a_traceback() -> None:
    with pytest.raises(OSError, match="nowhere://x: Protocol not known: nowhere"):
        DatasetStore("nowhere://x")
