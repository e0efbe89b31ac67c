"""Reduce KubeRay's definition of `RayJob` to what `spp submit --kuberay` writes.

    python tests/golden/rayjob_schema.py ray.io_rayjobs.yaml > tests/golden/rayjob_schema.json

The file is in KubeRay's sources, `ray-operator/config/crd/bases`. Objects on the way to what we
write keep all their keys, and take no others; of anything else only the type is kept. Names, types,
enumerations and what is required come along, descriptions do not.

The schema that lies here was not made from that file, which could not be had, but from a list
of the same facts: `spec` and below it from `apis/ray/v1` at 0057210 and 3275ee0, `authOptions`
from the reference of version 1.6.2, pods from the definition at 0074129; which keys a pod, its
security context and its volumes may have, from the Kubernetes API. Who has the file makes it anew.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KEPT = ("type", "enum", "required", "anyOf", "pattern")
EXPANDED = {
    "spec", "rayClusterSpec", "authOptions", "autoscalerOptions", "headGroupSpec",
    "workerGroupSpecs", "rayStartParams", "template", "securityContext", "containers", "env",
    "valueFrom", "secretKeyRef", "ports", "resources", "requests", "limits", "volumeMounts",
    "volumes", "persistentVolumeClaim", "configMap",
}  # fmt: skip


def definition(text: str) -> dict[str, Any]:
    """Return the schema of version v1 from a custom resource definition."""
    versions = yaml.safe_load(text)["spec"]["versions"]
    (found,) = (each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1")
    found["properties"].pop("status", None)
    found["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return found


def reduced(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that takes no unknown key, without what we do not write."""
    kept = {name: schema[name] for name in KEPT if name in schema}
    if "properties" in schema:
        kept["additionalProperties"] = False
        kept["properties"] = {
            name: reduced(each) if name in EXPANDED else _outline(each)
            for name, each in sorted(schema["properties"].items())
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = reduced(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = reduced(schema["items"])
    return kept


def _outline(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in ("type", "enum") if name in schema}


if __name__ == "__main__":
    found = reduced(definition(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write(json.dumps(found, indent=1, sort_keys=True) + "\n")
