"""What docker-compose.yml promises, read from the file: no engine is needed."""

import re
from typing import Any, Final

import pytest
from pydantic_settings import CliApp

from recorder.settings import RecorderSettings
from retraining.config import RetrainConfig
from service.settings import ENV_PREFIX, ServiceSettings
from tests.dashboards.files import ROOT, read_yaml

COMPOSE: Final = read_yaml(ROOT / "docker-compose.yml")
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
DOCKERFILE: Final = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")

each_service = pytest.mark.parametrize("name", SERVICES)


def test_the_stack_is_what_the_files_in_it_name() -> None:
    assert set(SERVICES) == {
        "setup", "service", "recorder", "retrain", "redis", "prometheus", "alertmanager", "grafana",
    }  # fmt: skip
    prometheus = read_yaml(ROOT / "dashboards" / "prometheus" / "prometheus.yml")
    scraped = [
        target
        for job in prometheus["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    ]
    told = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert {"service:8002", "recorder:8001"} <= set(scraped)
    assert told == ["alertmanager:9093"]


@each_service
def test_a_container_may_write_only_where_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name == "setup" else "unless-stopped")


@each_service
def test_only_the_service_is_published_beyond_this_machine(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    beyond = [port for port in published if not port.startswith("127.0.0.1:")]
    assert bool(beyond) == (name == "service")


@each_service
def test_a_container_is_waited_for_by_its_health(name: str) -> None:
    for awaited, condition in SERVICES[name].get("depends_on", {}).items():
        is_once = awaited == "setup"
        expected = "service_completed_successfully" if is_once else "service_healthy"
        assert condition["condition"] == expected
        # The service's is its image's own.
        is_told = "healthcheck" in SERVICES[awaited] or (
            awaited == "service" and "\nHEALTHCHECK " in DOCKERFILE
        )
        assert is_once or is_told


def test_the_service_starts_without_redis() -> None:
    assert SERVICES["service"]["depends_on"]["redis"]["required"] is False


def test_nothing_is_killed_before_it_has_drained() -> None:
    grace = SERVICES["service"]["stop_grace_period"]
    drain = ServiceSettings.model_fields["drain_seconds"].default
    assert float(grace.removesuffix("s")) > drain + 5


def test_the_recorder_is_given_only_settings_that_it_has() -> None:
    given = {
        name.removesuffix("_FILE")
        for name in [
            *SERVICES["recorder"]["environment"],
            *re.findall(r"\b(DQN_RECORD_\w+)=", DOCKERFILE),
        ]
    }
    assert given <= {f"DQN_RECORD_{name}".upper() for name in RecorderSettings.model_fields}


def test_retraining_is_given_only_flags_that_it_has_and_runs_where_it_is_wanted() -> None:
    retrain = SERVICES["retrain"]
    assert retrain["profiles"] == ["retraining"]
    verb, *flags = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in retrain["command"]]
    config = CliApp.run(RetrainConfig, cli_args=flags)
    assert (verb, config.every, config.metrics_host) == ("retrain", 21600.0, "0.0.0.0")
    # What the process refuses to pass leaves the container some of its own.
    assert (
        int(retrain["mem_limit"].split("-")[1].removesuffix("g}")) * 1024**3 > config.memory_bytes
    )
    assert str(config.metrics_port) in str(retrain["healthcheck"]["test"])


def test_the_service_is_given_only_settings_that_it_has() -> None:
    in_image = re.findall(rf"\b({ENV_PREFIX}\w+)=", DOCKERFILE)
    in_compose = list(SERVICES["service"]["environment"])
    known = {f"{ENV_PREFIX}{name}".upper() for name in ServiceSettings.model_fields}
    assert {name.removesuffix("_FILE") for name in in_compose if name.endswith("_URL_FILE")}
    given = {re.sub(r"_URL_FILE$", "_URL", name) for name in [*in_image, *in_compose]}
    assert given <= known


def test_every_variable_is_documented_with_the_default_that_it_has() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^(\w+)=(.*)$", example, flags=re.MULTILINE))
    assert used == documented
    assert text.count("${") == len(re.findall(r"\$\{\w+:-", text))


def test_defaults_of_the_stack_are_those_of_the_settings() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^DQN_(\w+)=(.*)$", example, flags=re.MULTILINE))
    fields = ServiceSettings.model_fields
    for variable in ("WORKERS", "DEADLINE_MS", "SPOOL_MAX_BYTES", "LOG_LEVEL"):
        assert documented[variable] == f"{fields[variable.lower()].default:}".removesuffix(".0")


def test_every_volume_is_declared_and_used() -> None:
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume[0] not in ".$"
    }
    assert mounted == set(COMPOSE["volumes"])


def test_no_container_but_setup_sees_the_keys_of_others() -> None:
    who_mounts = {
        volume.split(":")[0]: name
        for name, service in SERVICES.items()
        if name != "setup"
        for volume in service.get("volumes", [])
    }
    assert "secrets" not in who_mounts
    assert who_mounts["redis-secrets"] == "redis"
    assert who_mounts["retraining-key"] == "retrain"
    assert who_mounts["grafana-secrets"] == "grafana"


def test_the_image_runs_as_nobody_in_particular() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in last_stage
    assert "torch" not in re.sub(r"^#.*$", "", DOCKERFILE, flags=re.MULTILINE)
