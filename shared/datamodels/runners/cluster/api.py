"""Call the API of one namespace of a Kubernetes cluster, and raise our errors.

Objects are plain dicts, as in the API. Only this module knows the `kubernetes` package and its exceptions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datamodels.errors import ClusterError, ConflictError, NotFoundError, SettingsError, UnavailableError

Object = dict[str, Any]

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the attempts of a call that the API server does not answer."""
TIMEOUT = (10, 60)
"""Seconds to connect, and to answer."""
QUIET = 150
"""Seconds without a line after which a watch is taken for dead. A bookmark comes about every minute."""
PAGE = 500
"""Objects of one page of a list."""
KUEUE = "kueue.x-k8s.io"
"""Kueue's API group, which is also the prefix of its labels and annotations."""
NOT_SUCCEEDED = "status.phase!=Succeeded"
"""Field selector of pods that run, wait or failed. Of a Job of thousands of pods, most have succeeded."""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass(frozen=True)
class Query:
    """A list of objects.

    kind    a name of `Cluster._lists`
    labels  selector by labels
    fields  selector by fields
    """

    kind: str
    labels: str = ""
    fields: str = ""


class ExpiredError(NotFoundError):
    """The API server no longer has the version that a watch was to begin at."""


class Cluster:
    """Calls to one namespace.

    All raise ClusterError if the cluster refuses the call (quota, rights, a faulty object), NotFoundError,
    ConflictError if an object of that name exists, and UnavailableError if the API server does not answer for about
    15 seconds.
    """

    def __init__(self, namespace: str, api_client: Any):
        from kubernetes import client

        self.namespace = namespace
        self.api_client = api_client
        self._batch = client.BatchV1Api(api_client)
        self._core = client.CoreV1Api(api_client)
        self._apis = client.ApisApi(api_client)
        self._custom = client.CustomObjectsApi(api_client)
        self._lists: dict[str, Callable[..., Any]] = {
            "jobs": self._batch.list_namespaced_job,
            "pods": self._core.list_namespaced_pod,
            "events": self._core.list_namespaced_event,
            "configmaps": self._core.list_namespaced_config_map,
        }

    def create_job(self, job: Object) -> Object:
        return self._call("create", job, self._batch.create_namespaced_job, self.namespace, job)

    def job(self, name: str) -> Object | None:
        """Return the Job of this name; None if there is none."""
        try:
            return self._call("read", name, self._batch.read_namespaced_job, name, self.namespace)
        except NotFoundError:
            return None

    def jobs(self, selector: str) -> list[Object]:
        return self._found(Query("jobs", selector))

    def patch_job(self, name: str, spec: Object) -> Object:
        """Change fields of a Job's spec."""
        return self._call("change", name, self._batch.patch_namespaced_job, name, self.namespace, {"spec": spec})

    def delete_job(self, name: str) -> None:
        """Delete a Job after its pods and the Jobs that it owns. Does nothing if there is none."""
        with contextlib.suppress(NotFoundError):
            self._call(
                "delete", name, self._batch.delete_namespaced_job, name, self.namespace, propagation_policy="Foreground"
            )

    def pods(self, selector: str, fields: str = "") -> list[Object]:
        return self._found(Query("pods", selector, fields))

    def warnings(self, kind: str, name: str) -> list[Object]:
        """Return the events of type Warning about an object, the newest last."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
        events = self._found(Query("events", fields=selector))
        return sorted(events, key=seen)

    def workload(self, job: Object) -> Object | None:
        """Return Kueue's object for a Job, which says whether the Job is admitted, and why not.

        None if the cluster has no Kueue or forbids to read it. Both are common, and the Job itself says enough.
        """
        with contextlib.suppress(NotFoundError, ClusterError):
            groups = self._call("list", "", self._apis.get_api_versions)["groups"]
            versions = {group["name"]: group["preferredVersion"]["version"] for group in groups}
            if KUEUE in versions:
                place = (KUEUE, versions[KUEUE], self.namespace, "workloads")
                selector = f"{KUEUE}/job-uid={job['metadata']['uid']}"
                found, _ = self._list(self._custom.list_namespaced_custom_object, *place, label_selector=selector)
                return found[-1] if found else None
        return None

    def config_maps(self, selector: str) -> list[Object]:
        return self._found(Query("configmaps", selector))

    def log(self, pod: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield lines of a pod's log; with `follow`, until it ends. `tail` limits them to the last ones."""
        options = {"follow": follow, "_request_timeout": (TIMEOUT[0], None if follow else TIMEOUT[1])}
        if tail is not None:
            options["tail_lines"] = tail
        response = self._answer(
            "read the log of", pod, self._core.read_namespaced_pod_log, pod, self.namespace, options
        )
        with contextlib.closing(response):
            for line in response:
                yield line.decode(errors="replace").rstrip("\n")

    def forward(self, pod: str, port: int) -> socket.socket:
        """Open a connection to a port of a pod, through the API server."""
        from kubernetes import client
        from kubernetes.stream import portforward

        # A client of its own: its `request` is replaced during the call.
        connect_to = client.CoreV1Api(
            client.ApiClient(self.api_client.configuration)
        ).connect_get_namespaced_pod_portforward
        opened = self._answer(
            "forward a port of",
            pod,
            lambda *place, **_: portforward(connect_to, *place, ports=str(port)),
            pod,
            self.namespace,
            {},
        )
        return opened.socket(port)

    def read(self, query: Query) -> tuple[list[Object], str]:
        """Return the objects that a query finds, and the version of the list, to watch it from."""
        selectors = {"label_selector": query.labels, "field_selector": query.fields}
        return self._list(self._lists[query.kind], self.namespace, **selectors)

    def watch(self, query: Query, version: str, seconds: int) -> Any:
        """Return a response whose lines are the changes after a version, as they happen, for so many seconds."""
        options = {
            "label_selector": query.labels,
            "field_selector": query.fields,
            "watch": True,
            "resource_version": version,
            "allow_watch_bookmarks": True,
            "timeout_seconds": seconds,
            "_request_timeout": (TIMEOUT[0], QUIET),
        }
        return self._answer("watch", query.kind, self._lists[query.kind], self.namespace, options)

    def _found(self, query: Query) -> list[Object]:
        return self.read(query)[0]

    def _list(self, function: Callable[..., Any], *place: str, **options: Any) -> tuple[list[Object], str]:
        found: list[Object] = []
        token = None
        while True:
            paging = {"limit": PAGE} | ({"_continue": token} if token else {})
            page = self._call("list", "", function, *place, **options, **paging)
            found += map(slim, page["items"])
            token = page["metadata"].get("continue")
            if not token:
                return found, page["metadata"].get("resourceVersion", "")

    def _call(self, verb: str, thing: Object | str, function: Callable[..., Any], *arguments: Any, **options: Any):
        name = thing if isinstance(thing, str) else thing["metadata"]["name"]
        for wait in WAITS:
            try:
                return json.loads(self._answer(verb, name, function, *arguments, options).data)
            except UnavailableError:
                time.sleep(wait)
        return json.loads(self._answer(verb, name, function, *arguments, options).data)

    def _answer(self, verb: str, name: str, function: Callable[..., Any], *arguments: Any):
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        *positional, options = arguments
        what = f"{verb} {name}".strip()
        try:
            return function(*positional, **{"_request_timeout": TIMEOUT, "_preload_content": False} | options)
        except ApiException as error:
            raise _translated(what, self.namespace, error) from error
        except (HTTPError, OSError) as error:
            raise UnavailableError(f"the Kubernetes API does not answer ({what}): {_line(str(error))}") from error


def seen(event: Object) -> str:
    """Return when an event was last seen, as an ISO time; empty if it does not say."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return series or event.get("lastTimestamp") or event.get("eventTime") or ""


def slim(thing: Object) -> Object:
    """Leave out what nothing here reads, half of an object: who set each field."""
    thing["metadata"].pop("managedFields", None)
    return thing


def _translated(what: str, namespace: str, error: Any) -> Exception:
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = error.reason or str(error)
    message = f"namespace {namespace}: cannot {what}: {_line(text)}"
    match error.status:
        case 404:
            return NotFoundError(message)
        case 409:
            return ConflictError(message)
        case 403 if "exceeded quota" in text:
            return ClusterError(f"{message}; raise the quota, or ask for less in the chart's values")
        case 401 | 403:
            return ClusterError(
                f"{message}; ask for the rights of the chart's role, or choose another namespace or context"
            )
        case 410:
            return ExpiredError(message)
        case 429:
            return UnavailableError(message)
        case status if status is None or status >= 500:
            return UnavailableError(message)
    return ClusterError(message)


def _line(text: str) -> str:
    return " ".join(text.split())[:500]


def connect(namespace: str = "", *, context: str = "", kubeconfig: str = "") -> Cluster:
    """Connect to the cluster that kubectl would use or, inside a pod, to the pod's own. Raises SettingsError.

    namespace   default: that of the context, or of the pod
    context     of the kubeconfig; default: the current one
    kubeconfig  file; default: KUBECONFIG, or ~/.kube/config
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise SettingsError("the package kubernetes is missing; install datamodels-ml[kubernetes]") from error
    settings = client.Configuration()
    try:
        if POD_NAMESPACE.exists() and not kubeconfig and not context:
            config.load_incluster_config(client_configuration=settings)
            own = POD_NAMESPACE.read_text().strip()
        else:
            chosen = {"config_file": kubeconfig or None, "context": context or None}
            config.load_kube_config(**chosen, client_configuration=settings)
            contexts, current = config.list_kube_config_contexts(config_file=kubeconfig or None)
            named = next((c for c in contexts if c["name"] == context), current)
            own = named["context"].get("namespace", "default")
    except (config.ConfigException, OSError) as error:
        raise SettingsError(f"no cluster to talk to: {_line(str(error))}; set KUBECONFIG or --context") from error
    return Cluster(namespace or own, client.ApiClient(settings))
