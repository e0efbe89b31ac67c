"""A submitted job as Kubernetes knows it: KubeRay's `RayJob`, and a `ConfigMap` with the recipe.

KubeRay makes a cluster for the job, submits it there, and takes the cluster down at its end. The
image has the code; the recipe comes by the config map, runs and data lie on a volume that all pods
mount. A worker pod has room for one extractor, or for as many as share a GPU, and with
`decode = "cluster"` for one decoding task each. The autoscaler brings pods while extractors or
tasks wait for room, up to as many as hold `max_actors`.
"""

import math
import re
from pathlib import Path
from typing import Any

import ray
import yaml

from jobs.memory import fit_bytes
from jobs.parcel import RECIPE, Parcel, paths_of, recipe_text
from pipeline.config import Recipe
from pipeline.errors import RecipeError

SHARED = Path("/shared")
SECRET = "spp-env"
"""Holds the variables that `--env` only names: no value of theirs is printed."""
_RECIPES = Path("/recipe")
_NAME_CHARACTERS = 47  # KubeRay adds to it, and Kubernetes stops at 63
_MAX_ACTORS = 10  # where the recipe takes all there is, but a cluster that grows has no "all"
_ACTOR_BYTES = 4_000_000_000  # where the recipe sets no extractor.memory_bytes
_RAY_BYTES = 2_000_000_000  # raylet, agents and object store, beside what work reserves
_OBJECT_STORE_BYTES = 500_000_000  # plans and statistics; decoded images with decode = "cluster"
_USER = 1000  # of deploy/Dockerfile


def manifest(parcel: Parcel, image: str, claim: str, secrets: list[str]) -> str:
    """Return both documents as YAML.

    Args:
        parcel: what to run; its paths must lie under `SHARED`.
        image: a container image with sppnet and Ray.
        claim: the persistent volume claim mounted at `SHARED`.
        secrets: variables taken from the secret `SECRET`.

    Raises:
        RecipeError: a path lies elsewhere.
    """
    for path in (parcel.runs, *paths_of(parcel.recipe)):
        if not path.is_relative_to(SHARED):
            raise RecipeError(
                f"{path} is not under {SHARED}, where --kuberay mounts the claim {claim}: put runs "
                f"and data there, and name them so"
            )
    name = kubernetes_name(parcel.name)
    documents = [_config_map(name, parcel.recipe), _rayjob(name, parcel, image, claim, secrets)]
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=1000)


def kubernetes_name(name: str) -> str:
    """Return a name that Kubernetes takes, still ending in its digest.

    >>> kubernetes_name("spp-My_Recipe.2-0123456789ab")
    'spp-my-recipe-2-0123456789ab'
    >>> len(kubernetes_name("spp-" + "long" * 20 + "-0123456789ab"))
    47
    """
    plain = re.sub("[^a-z0-9]+", "-", name.lower())
    start, _, digest = plain.rpartition("-")
    return f"{start[: _NAME_CHARACTERS - len(digest) - 1].rstrip('-')}-{digest}"


def _config_map(name: str, recipe: Recipe) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {RECIPE: recipe_text(recipe)},
    }


def _rayjob(
    name: str, parcel: Parcel, image: str, claim: str, secrets: list[str]
) -> dict[str, Any]:
    variables = [
        {"name": each, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": each}}}
        for each in secrets
    ]
    container = {"image": image, "env": variables} if variables else {"image": image}
    runtime_env = {"env_vars": {}, **parcel.runtime_env()}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name},
        "spec": {
            "entrypoint": parcel.command(str(_RECIPES / RECIPE)),
            "runtimeEnvYAML": yaml.safe_dump(runtime_env, sort_keys=False),
            "submissionMode": "K8sJobMode",
            "backoffLimit": 2,  # a new cluster goes on where the last one stopped
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": {
                "rayVersion": ray.__version__,
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {"idleTimeoutSeconds": 120, "upscalingMode": "Default"},
                "headGroupSpec": _head(name, container, claim),
                "workerGroupSpecs": [_workers(parcel.recipe, container, claim)],
            },
        },
    }


def _head(name: str, container: dict[str, Any], claim: str) -> dict[str, Any]:
    """The driver runs there, and no work."""
    head = {
        "name": "ray-head",
        **container,
        "ports": [
            {"containerPort": port, "name": each}
            for each, port in {"gcs": 6379, "dashboard": 8265, "client": 10001}.items()
        ],
        **_resources(2, 4_294_967_296),
    }
    return {
        "rayStartParams": {"num-cpus": "0", "object-store-memory": str(_OBJECT_STORE_BYTES)},
        "template": _pod(head, claim, recipes=name),
    }


def _workers(recipe: Recipe, container: dict[str, Any], claim: str) -> dict[str, Any]:
    settings, gpus = recipe.extractor, recipe.extractor.gpus or 0
    actors = int(1 / gpus) if 0 < gpus < 1 else 1  # in a pod
    # One decodes what a GPU takes, or nearly; Ray gives the rest of the tasks to who has CPUs.
    cpus = actors * (settings.cpus + (settings.decode == "cluster"))
    work_bytes = max(
        actors * (settings.memory_bytes or _ACTOR_BYTES),
        cpus * fit_bytes(recipe),  # one fit a CPU
    )
    worker = {"name": "ray-worker", **container, **_resources(cpus, work_bytes + _RAY_BYTES, gpus)}
    return {
        "groupName": "extractors",
        "replicas": math.ceil(settings.min_actors / actors),
        "minReplicas": math.ceil(settings.min_actors / actors),
        "maxReplicas": math.ceil(
            (settings.max_actors or max(_MAX_ACTORS, settings.min_actors)) / actors
        ),
        "rayStartParams": {
            "num-cpus": str(cpus),
            "memory": str(work_bytes),
            "object-store-memory": str(_OBJECT_STORE_BYTES),
        },
        "template": _pod(worker, claim),
    }


def _resources(cpus: int, memory_bytes: int, gpus: float = 0) -> dict[str, Any]:
    """Requests and limits alike: Ray counts on what it was told."""
    amount: dict[str, Any] = {"cpu": str(cpus), "memory": f"{math.ceil(memory_bytes / 2**30)}Gi"}
    if gpus:
        amount["nvidia.com/gpu"] = str(math.ceil(gpus))
    return {"resources": {"requests": amount, "limits": dict(amount)}}


def _pod(container: dict[str, Any], claim: str, recipes: str | None = None) -> dict[str, Any]:
    volumes = [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}]
    mounts = [{"name": "shared", "mountPath": str(SHARED)}]
    if recipes is not None:
        volumes.append({"name": "recipe", "configMap": {"name": recipes}})
        mounts.append({"name": "recipe", "mountPath": str(_RECIPES)})
    user = {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER}
    return {
        "spec": {
            "securityContext": user,
            "containers": [{**container, "volumeMounts": mounts}],
            "volumes": volumes,
        }
    }


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: a reader should not have to look anchors up."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    style = "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text)
