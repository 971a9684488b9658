"""Find the Job templates of the chart, and fill them in. Filling in is pure."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from datamodels.errors import ConfigError, SpecError
from datamodels.rpc.auth import audience
from datamodels.run import specs
from datamodels.run.specs import RunSpec
from datamodels.runners.cluster.api import KUEUE, Cluster, Object
from datamodels.settings import ClusterSettings, StoreSettings, TrainerSettings

RUN_LABEL = "datamodels/run"
POOL_LABEL = "datamodels/pool"
"""Label of trainers: MAIN, or the name of a pool of further trainers in the chart's values."""
MAIN = "main"
CHART = "app.kubernetes.io/name=datamodels"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
LONGEST = 63 - len("-99999-abcde")
"""Most characters of a Job's name: with the index of a pod and its suffix it is a host name."""
STORE_VARIABLE = f"{StoreSettings.prefix}_URL"
"""Environment variable that gives a driver its store."""
SPEC_VARIABLE = f"{ClusterSettings.prefix}_SPEC"
"""Environment variable that gives a driver its spec."""
TOKEN_VOLUME = "run-token"
"""Volume with a token of the pod's account, for the audience of the run."""
MIN_PARALLELISM = f"{KUEUE}/job-min-parallelism"
"""Annotation of a Job that may start with fewer pods in parallel than it asks for."""
PODS = 4
"""Indexes of a trainer Job for each pod that it runs at once. A pod takes seconds to start, so a few must do; more of
them let the Job be scaled up later, and are tried again one by one. What an index leaves, others take over."""
MAX_CHUNKS_TEXT = 64 * 1024
"""Most bytes of a list of chunks as an argument; Linux allows 128 KiB."""
MAX_SPEC = 100 * 1024
"""Most bytes of a spec as an environment variable; Linux allows 128 KiB."""


def find(cluster: Cluster, release: str = "") -> Object:
    """Return the chart's ConfigMap of templates in a namespace. Raises ConfigError unless there is exactly one."""
    selector = f"{CHART},{COMPONENT}=jobs" + (f",{INSTANCE}={release}" if release else "")
    found = cluster.config_maps(selector)
    named = f" release {release} of the" if release else ""
    if not found:
        raise ConfigError(
            f"namespace {cluster.namespace}: no{named} chart is installed; install it with `helm install dm "
            "helm/datamodels`, or choose another namespace with --namespace"
        )
    if len(found) > 1:
        names = ", ".join(sorted(m["metadata"]["labels"][INSTANCE] for m in found))
        raise ConfigError(f"namespace {cluster.namespace}: has the releases {names}; choose one with --release")
    return found[0]


def read(folder: Path) -> Mapping[str, str]:
    """Read {file name: YAML} from the folder where the chart mounts its templates. Raises ConfigError."""
    try:
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))}
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error


def driver_job(config_map: Object, spec: RunSpec) -> Object:
    """Make the driver's Job of a run. Raises SpecError if the spec is too large.

    The ConfigMap with the templates owns it, so uninstalling the chart ends its runs.
    """
    job, container = _load(config_map.get("data") or {}, "driver", spec)
    text = json.dumps(spec.request())
    if len(text) > MAX_SPEC:
        raise SpecError(f"spec {spec.name}: takes {len(text)} bytes, at most {MAX_SPEC} allowed; shorten its options")
    job["metadata"]["name"] = named(spec.run, release_of(job))
    _own(job, "v1", "ConfigMap", config_map["metadata"]["name"], config_map["metadata"]["uid"])
    container["env"].append({"name": SPEC_VARIABLE, "value": text})
    return job


def drives(job: Object, spec: RunSpec) -> bool:
    """Return whether a driver's Job has exactly this spec, including fit, until and output."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        for variable in container.get("env") or ():
            if variable["name"] == SPEC_VARIABLE:
                with contextlib.suppress(ValueError, SpecError):  # another version may not parse
                    return specs.parse(json.loads(variable["value"])) == spec
    return False


def trainer_job(templates: Mapping[str, str], spec: RunSpec, chunks: Sequence[int], owner: ClusterSettings) -> Object:
    """Make the Indexed Job that trains chunks of a run. The chunks are in ascending order."""
    job, container = _load(templates, "trainer", spec)
    text, indexes = shares(templates, spec, chunks)
    job["metadata"]["name"] = trainer_name(spec, release_of(job))
    _own(job, "batch/v1", "Job", owner.owner, owner.owner_uid)
    job["spec"]["completions"] = indexes
    if "maxFailedIndexes" in job["spec"]:  # the API refuses a number above that of the indexes
        job["spec"]["maxFailedIndexes"] = min(job["spec"]["maxFailedIndexes"], indexes)
    annotations = job["metadata"].get("annotations", {})
    if MIN_PARALLELISM in annotations:  # Kueue refuses a number that is not below the parallelism
        fewest = min(int(annotations.pop(MIN_PARALLELISM)), job["spec"]["parallelism"] - 1, indexes - 1)
        if fewest:
            annotations[MIN_PARALLELISM] = str(fewest)
    _train(container, spec, text, indexes)
    return job


def shares(templates: Mapping[str, str], spec: RunSpec, chunks: Sequence[int]) -> tuple[str, int]:
    """Return the chunks as an argument of trainers, and how many indexes of the main Job share them."""
    job, _ = _load(templates, "trainer", spec)
    text, count = chunk_list(chunks), len(chunks)
    if len(text) > MAX_CHUNKS_TEXT:  # too many gaps: take all chunks, since committed ones end at once
        text, count = chunk_list(range(spec.chunks)), spec.chunks
    return text, min(count, PODS * job["spec"]["parallelism"])


def pools(templates: Mapping[str, str]) -> list[str]:
    """Return the names of the pools of further trainers."""
    return sorted(name[len("trainer-") : -len(".yaml")] for name in templates if name.startswith("trainer-"))


def pool_job(
    templates: Mapping[str, str], pool: str, spec: RunSpec, chunks: Sequence[int], owner: ClusterSettings
) -> Object:
    """Make the Job of further trainers, which take chunks that the indexes of the main Job have left."""
    job, container = _load(templates, "trainer", spec, f"trainer-{pool}")
    text, indexes = shares(templates, spec, chunks)
    job["metadata"]["name"] = named(f"train-{spec.hash[:12]}-{pool}", release_of(job))
    _own(job, "batch/v1", "Job", owner.owner, owner.owner_uid)
    job["spec"]["completions"] = pods = job["spec"]["parallelism"]
    if "maxFailedIndexes" in job["spec"]:
        job["spec"]["maxFailedIndexes"] = min(job["spec"]["maxFailedIndexes"], pods)
    job["metadata"].get("annotations", {}).pop(MIN_PARALLELISM, None)
    _train(container, spec, text, indexes)
    container["args"].append("--helps")
    return job


def fitter_job(templates: Mapping[str, str], spec: RunSpec, owner: ClusterSettings) -> Object:
    """Make the Job whose pod serves one fit."""
    job, _ = _load(templates, "fitter", spec)
    job["metadata"]["name"] = fitter_name(spec, release_of(job))
    _own(job, "batch/v1", "Job", owner.owner, owner.owner_uid)
    return job


def trainer_name(spec: RunSpec, release: str) -> str:
    return named(f"train-{spec.hash[:12]}", release)


def fitter_name(spec: RunSpec, release: str) -> str:
    return named(f"fit-{spec.hash[:12]}", release)


def named(stem: str, release: str) -> str:
    """Return the name of a Job, of at most LONGEST characters: two releases in one namespace must not share a Job."""
    name = f"{stem}-{release}"
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - 9].rstrip('-.')}-{digest}"


def release_of(thing: Object) -> str:
    """Return the release of the chart that an object belongs to."""
    return thing["metadata"].get("labels", {}).get(INSTANCE, "")


def store_of(job: Object) -> str:
    """Return the URL of the store that a driver's Job uses; empty if it does not say."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        for variable in container.get("env") or ():
            if variable["name"] == STORE_VARIABLE:
                return variable.get("value", "")
    return ""


def chunk_list(chunks: Sequence[int]) -> str:
    """Format ascending chunks for the trainer's --chunks: "0-3,7"."""
    spans: list[list[int]] = []
    for chunk in chunks:
        if spans and chunk == spans[-1][1] + 1:
            spans[-1][1] = chunk
        else:
            spans.append([chunk, chunk])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def _train(container: Object, spec: RunSpec, text: str, indexes: int) -> None:
    container["env"].append({"name": f"{TrainerSettings.prefix}_SPEC", "value": spec.hash})
    container["args"] = ["--run", spec.run, "--chunks", text, "--indexes", str(indexes)]


def _load(templates: Mapping[str, str], kind: str, spec: RunSpec, file: str = "") -> tuple[Object, Object]:
    """Load a template, and set the run's label and the audience of its token. Returns (Job, its container).

    file  name of the template, without its ending, if it is not the kind

    Raises ConfigError.
    """
    try:
        # Kubernetes reads YAML 1.1, as PyYAML does: in its manifests 0440 is octal. Specs are YAML 1.2.
        job = copy.deepcopy(yaml.safe_load(templates[f"{file or kind}.yaml"]))
        pod = job["spec"]["template"]
        container = next(c for c in pod["spec"]["containers"] if c["name"] == kind)
        for thing in (job, pod):
            thing["metadata"].setdefault("labels", {})[RUN_LABEL] = spec.run
        container.setdefault("env", [])
        for volume in pod["spec"].get("volumes", []):
            if volume["name"] == TOKEN_VOLUME:
                for source in volume["projected"]["sources"]:
                    source["serviceAccountToken"]["audience"] = audience(spec.run)
    except (yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(
            f"template {kind}.yaml of the chart: is not a Job with a container named {kind} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); install the chart of this version"
        ) from error
    return job, container


def _own(job: Object, api_version: str, kind: str, name: str, uid: str) -> None:
    """Make another object the owner of a Job: deleting the owner deletes the Job."""
    reference = {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}
    job["metadata"]["ownerReferences"] = [reference]
