"""The script that runs before the service, run for real with folders in place of volumes."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import ForbiddenError
from service.keys import Keys
from tests.builders import POLICY, write_policy
from tests.dashboards.files import ROOT

FOLDERS = ("keys", "secrets", "redis", "grafana", "retraining", "import", "data")


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dqn"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return tmp_path


def set_up(volumes: Path) -> None:
    path = f"{volumes / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run(
        ["sh", str(ROOT / "deploy" / "setup.sh")],
        cwd=ROOT,
        env={"PATH": path, "DQN_SETUP_ROOT": str(volumes)},
        check=True,
        capture_output=True,
    )


def read_all(volumes: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(volumes)): path.read_bytes()
        for name in FOLDERS
        for path in sorted((volumes / name).rglob("*"))
        if path.is_file()
    }


def test_the_keys_it_hands_out_open_what_they_should(volumes: Path) -> None:
    set_up(volumes)
    keys = Keys(volumes / "keys" / "keys")
    operator, agent = (
        b"Bearer " + (volumes / "secrets" / f"{name}.key").read_bytes().strip()
        for name in ("operator", "agent")
    )
    assert keys.authorise(operator, "operate") == "operator"
    assert keys.authorise(agent, "act") == "agent"
    with pytest.raises(ForbiddenError, match="operate"):
        keys.authorise(agent, "operate")


def test_retraining_s_key_starts_canaries_and_promotes_nothing(volumes: Path) -> None:
    set_up(volumes)
    keys = Keys(volumes / "keys" / "keys")
    bearer = b"Bearer " + (volumes / "retraining" / "key").read_bytes().strip()
    assert keys.authorise(bearer, "submit") == "retraining"
    with pytest.raises(ForbiddenError, match="operate"):
        keys.authorise(bearer, "operate")


def test_redis_and_the_service_are_given_one_password(volumes: Path) -> None:
    set_up(volumes)
    password = (volumes / "redis" / "redis.conf").read_text().split()[1]
    assert len(password) > 30
    assert (volumes / "keys" / "redis_url").read_text() == f"redis://:{password}@redis:6379/0\n"


def test_a_second_run_changes_nothing(volumes: Path) -> None:
    write_policy(volumes / "import")
    set_up(volumes)
    first = read_all(volumes)
    set_up(volumes)
    assert read_all(volumes) == first


def test_new_versions_of_the_host_are_taken_over_and_old_ones_left_alone(volumes: Path) -> None:
    write_policy(volumes / "import", version=1)
    set_up(volumes)
    taken = volumes / "data" / "policies" / POLICY
    (taken / "1" / "card.md").write_text("kept", encoding="utf-8")
    write_policy(volumes / "import", version=2)
    (volumes / "import" / POLICY / "3").mkdir()
    set_up(volumes)
    assert sorted(path.name for path in taken.iterdir()) == ["1", "2", "policy.toml"]
    assert (taken / "1" / "card.md").read_text(encoding="utf-8") == "kept"
