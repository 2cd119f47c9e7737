"""What the manifests promise, read from what they render to."""

import importlib.util
import json
import re
from typing import Any, Final

import pytest

from recorder.settings import RecorderSettings
from service.settings import ServiceSettings
from tests.deploy.rendering import (
    KUSTOMIZE,
    OVERLAYS,
    ROOT,
    Resource,
    identity,
    pod_specs,
    read_all,
    render,
)

RENDERED: Final = {name: render(KUSTOMIZE / "overlays" / name) for name in OVERLAYS}
each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def find(name: str, kind: str, resource: str) -> Any:
    found = [each for each in RENDERED[name] if identity(each) == (kind, resource)]
    assert found, f"{name} has no {kind} {resource}"
    return found[0]


def containers(name: str) -> list[Resource]:
    return [each for spec in pod_specs(RENDERED[name]).values() for each in spec["containers"]]


@each_overlay
def test_no_resource_is_there_twice_and_all_are_in_the_namespace(name: str) -> None:
    identities = [identity(each) for each in RENDERED[name]]
    assert len(identities) == len(set(identities))
    assert len({each["metadata"]["namespace"] for each in RENDERED[name]}) == 1


@each_overlay
def test_no_pod_is_root_or_writes_to_its_image_or_has_a_token(name: str) -> None:
    for spec in pod_specs(RENDERED[name]).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        # A Service named dqn would set DQN_PORT and more beside our settings.
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


@each_overlay
def test_every_container_asks_for_what_it_needs_and_is_probed(name: str) -> None:
    for container in containers(name):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert {"startupProbe", "livenessProbe"} <= container.keys()
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            how = container.get(probe, {})
            for kind in ("httpGet", "tcpSocket"):
                assert how.get(kind, {"port": next(iter(ports))})["port"] in ports


@each_overlay
def test_settings_are_ones_that_the_processes_know(name: str) -> None:
    for config_map, settings, prefix in (
        ("dqn-serving", ServiceSettings, "DQN_SERVE_"),
        ("dqn-recorder", RecorderSettings, "DQN_RECORD_"),
    ):
        known = {f"{prefix}{field}".upper() for field in settings.model_fields}
        given = find(name, "ConfigMap", config_map)["data"]
        assert {re.sub(r"_URL_FILE$", "_URL", variable) for variable in given} <= known


@each_overlay
def test_what_a_replica_accepted_is_on_a_volume_that_outlives_it(name: str) -> None:
    replicas = find(name, "StatefulSet", "dqn")["spec"]
    claims = {each["metadata"]["name"] for each in replicas["volumeClaimTemplates"]}
    mounts = {
        each["mountPath"]: each["name"]
        for each in replicas["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    data = find(name, "ConfigMap", "dqn-serving")["data"]["DQN_SERVE_DATA"]
    assert mounts[data] in claims
    assert replicas["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"


@each_overlay
def test_a_pod_is_not_killed_before_it_has_drained(name: str) -> None:
    spec = pod_specs(RENDERED[name])["dqn"]
    notice = float(find(name, "ConfigMap", "dqn-serving")["data"]["DQN_SERVE_DRAIN_NOTICE_SECONDS"])
    drain = ServiceSettings.model_fields["drain_seconds"].default
    assert spec["terminationGracePeriodSeconds"] > notice + drain + 5


@each_overlay
def test_a_lost_model_takes_no_pod_down_and_a_start_is_waited_for(name: str) -> None:
    (container,) = pod_specs(RENDERED[name])["dqn"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


@each_overlay
def test_selectors_select_the_pods_that_they_are_for(name: str) -> None:
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in RENDERED[name]
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    for resource in RENDERED[name]:
        kind, own_name = identity(resource)
        spec = resource.get("spec", {})
        if kind == "Service":
            selector = spec["selector"]
        elif kind in ("PodDisruptionBudget", "Deployment", "StatefulSet"):
            selector = spec["selector"]["matchLabels"]
        elif kind == "NetworkPolicy":
            selector = spec["podSelector"]["matchLabels"]
        else:
            continue
        hit = [pod for pod, found in labels.items() if selector.items() <= found.items()]
        assert len(hit) == 1, f"{kind} {own_name} selects {hit}"


@each_overlay
def test_every_volume_and_reference_leads_somewhere(name: str) -> None:
    known = {identity(each) for each in RENDERED[name]}
    for spec in pod_specs(RENDERED[name]).values():
        for volume in spec.get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in known
        for container in spec["containers"]:
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in known


@each_overlay
def test_no_image_is_a_moving_target(name: str) -> None:
    for container in containers(name):
        assert re.fullmatch(r"\S+:(?!latest)[\w.-]+", container["image"])


def test_redis_in_development_forgets_nothing() -> None:
    (container,) = pod_specs(RENDERED["development"])["redis"]["containers"]
    arguments = " ".join(container["args"])
    assert "--appendonly yes" in arguments
    assert "--maxmemory-policy noeviction" in arguments
    assert "redis" not in pod_specs(RENDERED["production"])


def test_replicas_in_production_are_the_autoscaler_s_by_rows_in_flight() -> None:
    assert "replicas" not in find("production", "StatefulSet", "dqn")["spec"]
    spec = find("production", "HorizontalPodAutoscaler", "dqn")["spec"]
    assert spec["scaleTargetRef"]["kind"] == "StatefulSet"
    assert spec["metrics"][0]["pods"]["metric"]["name"] == "dqn_in_flight_rows"
    budget = find("production", "PodDisruptionBudget", "dqn")["spec"]
    assert spec["minReplicas"] > budget["maxUnavailable"]


def test_steps_of_an_episode_go_to_one_replica_and_nothing_else_is_tied() -> None:
    hashed = "nginx.ingress.kubernetes.io/upstream-hash-by"
    episodes = find("production", "Ingress", "dqn-episodes")
    others = find("production", "Ingress", "dqn")
    assert episodes["metadata"]["annotations"][hashed] == "$uri"
    assert hashed not in others["metadata"]["annotations"]
    paths = [each["path"] for each in episodes["spec"]["rules"][0]["http"]["paths"]]
    assert paths == ["/v1/episodes"]
    open_paths = {each["path"] for each in others["spec"]["rules"][0]["http"]["paths"]}
    assert open_paths == {"/v1", "/v2"}


def test_prometheus_scrapes_each_pod_once() -> None:
    monitor = find("production", "ServiceMonitor", "dqn")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    asked = {endpoint["port"] for endpoint in monitor["endpoints"]}
    scraped = [
        (each["metadata"]["name"], port["name"])
        for each in RENDERED["production"]
        if each["kind"] == "Service" and wanted <= each["metadata"].get("labels", {}).items()
        for port in each["spec"]["ports"]
        if port["name"] in asked
    ]
    assert sorted(scraped) == [("dqn", "admin"), ("dqn-recorder", "metrics")]


@each_overlay
def test_agents_do_not_reach_the_port_of_operators(name: str) -> None:
    (serving,) = pod_specs(RENDERED[name])["dqn"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in serving["ports"]}
    settings = find(name, "ConfigMap", "dqn-serving")["data"]
    assert settings["DQN_SERVE_ADMIN_LISTEN"] == f"0.0.0.0:{ports['admin']}"
    reached: dict[str, set[str]] = {}
    for rule in find(name, "NetworkPolicy", "dqn-serving")["spec"]["ingress"]:
        for peer in rule["from"]:
            for label in peer.get("namespaceSelector", {}).get("matchLabels", {"own": ""}):
                reached.setdefault(label, set()).update(port["port"] for port in rule["ports"])
    assert reached == {
        "own": {"http", "admin"},
        "dqn-serving/agents": {"http"},
        "dqn-serving/operators": {"admin"},
        "dqn-serving/monitoring": {"admin"},
    }


def test_alerts_and_dashboards_are_those_of_the_folder() -> None:
    path = ROOT / "deploy" / "monitoring.py"
    spec = importlib.util.spec_from_file_location("monitoring", path)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    for written, text in program.resources(program.DASHBOARDS).items():
        assert written.read_text(encoding="utf-8") == text, "run python deploy/monitoring.py"


def test_every_dashboard_is_a_config_map_that_grafana_loads() -> None:
    found = find("production", "ConfigMap", "dqn-dashboards")
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    there = {path.name for path in (ROOT / "dashboards/grafana/dashboards").glob("*.json")}
    assert set(found["data"]) == there
    for content in found["data"].values():
        assert json.loads(content)["title"]


def test_argo_and_flagger_ask_what_the_service_answers() -> None:
    (analysis,) = read_all(KUSTOMIZE / "examples" / "argo-rollouts.yaml")
    (metric,) = analysis["spec"]["metrics"]
    web = metric["provider"]["web"]
    assert web["url"].endswith("/v1/policies/{{args.policy}}/rollout/verdict")
    assert web["jsonPath"] == "{$.verdict}"
    assert metric["successCondition"] == 'result == "promote"'
    assert metric["failureCondition"] == 'result == "roll_back"'
    (canary,) = read_all(KUSTOMIZE / "examples" / "flagger.yaml")
    asked = {each["type"]: each["url"] for each in canary["spec"]["analysis"]["webhooks"]}
    assert asked["rollout"].endswith("/gates/rollout")
    assert asked["confirm-promotion"].endswith("/gates/promotion")
    service = find("production", "Service", "dqn")
    address = (
        f"http://dqn.{service['metadata']['namespace']}:{service['spec']['ports'][0]['port']}/"
    )
    for url in (web["url"], *asked.values()):
        assert url.startswith(address)
