import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from service.errors import ForbiddenError, UnauthorizedError
from service.keys import Keys, KeysError, add_key, read_keys
from tests.service.conftest import declare
from tests.service.running import Running, running, settings_for, wait_until

ACT = {"observations": [[0.0, 0.0, 0.0, 0.0]]}
PIN = {"why": "to see"}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> dict[str, str]:
    """One key a scope."""
    scopes = ("act", "report", "read", "submit", "operate")
    return {scope: add_key(keys_file, f"{scope}er", [scope]) for scope in scopes}


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, keys_file: Path, keys: dict[str, str]
) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("locked")
    declare(data)
    with running(settings_for(data, keys_file=keys_file)) as started:
        yield started


CALLS = [
    ("POST", "/v1/actions", ACT, "act"),
    ("POST", "/v1/outcomes", {"outcomes": [{"reward": 1, "decision_id": "d"}]}, "report"),
    ("POST", "/v1/transitions", {"transitions": [{}]}, "report"),
    ("GET", "/v1/policies", None, "read"),
    ("GET", "/v1/policies/cartpole", None, "read"),
    ("GET", "/v1/policies/cartpole/versions", None, "read"),
    ("GET", "/v1/policies/cartpole/ledger", None, "read"),
    ("POST", "/v1/policies/cartpole/unpin", PIN, "operate"),
    ("POST", "/v1/policies/cartpole/unfreeze", PIN, "operate"),
]


@pytest.mark.parametrize("has_lane", [True, False])
@pytest.mark.parametrize(("method", "path", "body", "scope"), CALLS)
def test_each_call_needs_a_key_with_its_scope(
    locked: Running,
    keys: dict[str, str],
    method: str,
    path: str,
    body: object,
    scope: str,
    has_lane: bool,
) -> None:
    client = locked.client if has_lane else locked.plain

    def call(authorization: str | None) -> httpx.Response:
        headers = {} if authorization is None else {"authorization": authorization}
        return client.request(method, path, json=body, headers=headers)

    for unknown in (None, "", "Bearer", "Bearer dqn_guessed", f"Basic {keys[scope]}"):
        refused = call(unknown)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
    for other, key in keys.items():
        response = call(f"Bearer {key}")
        assert response.status_code == (200 if other == scope else 403), response.text


def test_who_has_no_key_learns_no_policys_name(locked: Running) -> None:
    for path in ("/v1/policies/guess", "/v1/policies/guess/ledger"):
        assert "cartpole" not in locked.client.get(path).text
    for verb in ("promote", "rollback", "pin", "freeze"):
        response = locked.client.post(f"/v1/policies/guess/{verb}", json=PIN | {"version": 1})
        assert response.status_code == 401
        assert "cartpole" not in response.text
    assert "cartpole" not in locked.client.post("/v1/actions", json=ACT | {"policy": "guess"}).text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics", "/docs"])
def test_probes_and_documentation_need_no_key(locked: Running, path: str) -> None:
    assert locked.client.get(path).status_code == 200


def test_a_change_is_noted_under_the_name_of_its_key(locked: Running, keys: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {keys['operate']}"}
    answer = locked.client.post("/v1/policies/cartpole/unpin", json=PIN, headers=headers).json()
    assert answer["entry"]["who"] == "operateer"


def test_keys_are_rotated_without_a_restart(
    locked: Running, keys: dict[str, str], keys_file: Path
) -> None:
    def status(key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return locked.client.post("/v1/actions", json=ACT, headers=headers).status_code

    before = keys_file.read_text(encoding="utf-8")
    fresh = add_key(keys_file, "fresh", ["act"])
    try:
        assert status(keys["act"]) == 200
        wait_until(lambda: status(fresh) == 200, "the new key is known")
        keys_file.write_text("fresh nonsense\n", encoding="utf-8")
        why = "keys: "
        wait_until(
            lambda: status(fresh) == 200 and why in locked.client.get("/readyz").text,
            "the broken file is told of",
        )
        assert status(fresh) == 200
        assert locked.metric("dqn_keys_stale") == 1
        assert locked.client.get("/readyz").status_code == 200
    finally:
        keys_file.write_text(before, encoding="utf-8")
    wait_until(lambda: status(fresh) == 401, "the key that was taken away is unknown")
    assert status(keys["act"]) == 200
    assert locked.metric("dqn_keys_stale") == 0


def test_only_hashes_are_kept_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = add_key(path, "agents", ["act", "report"])
    content = path.read_text(encoding="utf-8")
    assert key not in content
    assert content == f"agents act,report {sha256(key.encode()).hexdigest()}\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_is_case_sensitive_and_its_scheme_is_not(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", "agents", ["act"])
    keys = Keys(tmp_path / "keys")
    assert keys.authorise(b"bEARER " + key.encode(), "act") == "agents"
    with pytest.raises(UnauthorizedError):
        keys.authorise(b"Bearer " + key.swapcase().encode(), "act")
    with pytest.raises(ForbiddenError, match="operate"):
        keys.authorise(b"Bearer " + key.encode(), "operate")


def test_a_missing_file_keeps_the_keys_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = add_key(path, "agents", ["act"])
    keys = Keys(path)
    path.unlink()
    wait_until(lambda: keys.authorise(f"Bearer {key}".encode(), "act") == "agents", "still known")
    assert keys.fault is not None
    assert str(path) in keys.fault


def test_a_file_replaced_by_one_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old = add_key(path, "agents", ["act"])
    keys = Keys(path)
    new = add_key(tmp_path / "next", "agents", ["act"])
    stamp = path.stat().st_mtime_ns
    os.utime(tmp_path / "next", ns=(stamp, stamp))
    (tmp_path / "next").replace(path)
    assert keys.authorise(f"Bearer {new}".encode(), "act") == "agents"
    with pytest.raises(UnauthorizedError):
        keys.authorise(f"Bearer {old}".encode(), "act")


@pytest.mark.parametrize(
    "line",
    [
        "agents act",
        "agents act abc",
        f"agents act {'z' * 64}",
        f"agents fly {'0' * 64}",
        f"agents act,fly {'0' * 64}",
        f"agents act {'0' * 62}",
        f"two words act {'0' * 64}",
    ],
)
def test_a_line_that_is_no_key_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# a comment\n\n{line}\n", encoding="utf-8")
    with pytest.raises(KeysError, match="line 3"):
        read_keys(path)


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["act"]), ("a b", ["act"]), ("a#", ["act"]), ("a", []), ("a", ["x"])]
)
def test_a_key_that_could_not_be_read_back_is_not_made(
    tmp_path: Path, name: str, scopes: list[str]
) -> None:
    with pytest.raises(KeysError):
        add_key(tmp_path / "keys", name, scopes)
    assert not (tmp_path / "keys").exists()


def test_without_a_file_everybody_may_do_everything() -> None:
    assert Keys(None).authorise(None, "operate") == "anonymous"


def test_a_key_goes_on_a_line_of_its_own_behind_one_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first = add_key(path, "first", ["read"])
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    second = add_key(path, "second", ["act"])
    keys = Keys(path)
    assert keys.authorise(f"Bearer {first}".encode(), "read") == "first"
    assert keys.authorise(f"Bearer {second}".encode(), "act") == "second"
