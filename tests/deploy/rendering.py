"""What `kubectl kustomize` makes of a folder, for the few features that ours use.

A slow test holds it to the real one, so that quick tests need no kubectl.
"""

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
KUSTOMIZE: Final = ROOT / "deploy" / "kustomize"
OVERLAYS: Final = ("development", "production")
_KNOWN: Final = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "components",
    "images",
    "patches",
    "configMapGenerator",
    "generatorOptions",
}

Resource = dict[str, Any]


def render(folder: Path) -> list[Resource]:
    """The resources of a folder with a `kustomization.yaml`."""
    told = read_all(folder / "kustomization.yaml")[0]
    assert told.keys() <= _KNOWN, f"{folder}: {told.keys() - _KNOWN} is not rendered here"
    resources: list[Resource] = []
    for name in (*told.get("resources", ()), *told.get("components", ())):
        path = folder / name
        resources += render(path) if path.is_dir() else read_all(path)
    resources += [_config_map(folder, each) for each in told.get("configMapGenerator", ())]
    for patch in told.get("patches", ()):
        (change,) = read_all(folder / patch["path"])
        (target,) = [each for each in resources if identity(each) == identity(change)]
        _merge(target, change)
    for image in told.get("images", ()):
        for resource in resources:
            _replace_image(resource, image)
    if "namespace" in told:
        for resource in resources:
            resource["metadata"]["namespace"] = told["namespace"]
    return resources


def identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def read_all(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pod_specs(resources: list[Resource]) -> dict[str, Any]:
    """Those of Deployments and StatefulSets, by name."""
    return {
        resource["metadata"]["name"]: resource["spec"]["template"]["spec"]
        for resource in resources
        if resource["kind"] in ("Deployment", "StatefulSet")
    }


def _merge(target: Any, change: Any) -> None:
    """A strategic merge of tables; lists are replaced, null removes."""
    for name, value in change.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value


def _replace_image(node: Any, image: dict[str, str]) -> None:
    if isinstance(node, list):
        for each in node:
            _replace_image(each, image)
    elif isinstance(node, dict):
        if node.get("image") == image["name"]:
            node["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for each in node.values():
            _replace_image(each, image)


def _config_map(folder: Path, told: dict[str, Any]) -> Resource:
    files = [folder / name for name in told["files"]]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": told["name"], "labels": told["options"]["labels"]},
        "data": {path.name: path.read_text(encoding="utf-8") for path in files},
    }
