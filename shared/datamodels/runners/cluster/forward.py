"""Reach a service of the chart from outside the cluster, by port-forwarding through the API server."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from datamodels.errors import DatamodelsError, NotReadyError, UnavailableError
from datamodels.runners.cluster import templates
from datamodels.runners.cluster.api import Cluster, Object
from datamodels.runners.cluster.templates import CHART, COMPONENT, INSTANCE, RUN_LABEL
from datamodels.telemetry import logger

log = logger(__name__)

PIECE = 2**18
"""Bytes that are passed on at once."""

Dial = Callable[[], socket.socket]
"""Opens a new connection."""


@contextlib.contextmanager
def forwarded(cluster: Cluster, component: str, release: str = "") -> Iterator[tuple[str, str]]:
    """Yield the address of a service of the chart, which only this user can reach, and the service's name for TLS.

    Every connection to the address goes to a pod that is ready. Raises ConfigError if there is no chart or several
    releases, NotReadyError if no pod is ready, and ClusterError if the cluster forbids it. Calls that fail because
    later connections cannot be opened raise the reason, too.
    """
    chosen = templates.release_of(templates.find(cluster, release))
    pod = _ready(cluster, component, chosen)

    failed: list[DatamodelsError] = []

    def dial() -> socket.socket:
        failed.clear()
        try:
            return cluster.forward(_ready(cluster, component, chosen)["metadata"]["name"], _port(pod))
        except DatamodelsError as error:
            failed.append(error)
            raise

    with listening(dial) as address:
        try:
            yield address, _service_of(pod)
        except UnavailableError as error:  # it names a socket here, which says nothing about the cluster
            raise (failed or [error])[0] from error


def _ready(cluster: Cluster, component: str, release: str) -> Object:
    pods = cluster.pods(f"{CHART},{COMPONENT}={component},{INSTANCE}={release},!{RUN_LABEL}", "status.phase=Running")
    ready = [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
    ]
    if not ready:
        raise NotReadyError(
            f"namespace {cluster.namespace}: no pod of the {component} service is ready; `datamodels status -n "
            f"{cluster.namespace}` says why"
        )
    return random.choice(ready)


def _service_of(pod: Object) -> str:
    """Return the name of a pod's service, which certificates have: that of its Deployment, and the namespace."""
    meta = pod["metadata"]
    name = meta.get("generateName", "").removesuffix(f"-{meta['labels'].get('pod-template-hash', '')}-")
    return f"{name}.{meta.get('namespace', '')}"


def _port(pod: Object) -> int:
    ports = {p.get("name"): p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    return int(ports["grpc"])


@contextlib.contextmanager
def listening(dial: Dial) -> Iterator[str]:
    """Yield the address of a unix socket, unix:PATH, each connection to which is passed on to one that `dial` opens."""
    with tempfile.TemporaryDirectory(prefix="datamodels-") as folder, contextlib.closing(_listen(folder)) as listener:
        threading.Thread(target=_accept, args=(listener, dial), name="port-forward", daemon=True).start()
        yield f"unix:{listener.getsockname()}"


def _listen(folder: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Path(folder) / "forward"))
    listener.listen()
    return listener


def _accept(listener: socket.socket, dial: Dial) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # it was closed
            return
        threading.Thread(target=_join, args=(near, dial), name="port-forward", daemon=True).start()


def _join(near: socket.socket, dial: Dial) -> None:
    """Pass on what both ends of a connection send, until one of them ends."""
    with near:
        try:
            far = dial()
        except DatamodelsError as error:  # the client sees a closed connection, and tries again
            log.debug("port-forwarding failed", reason=str(error))
            return
        with contextlib.closing(far):
            back = threading.Thread(target=_pass_on, args=(far, near), name="port-forward", daemon=True)
            back.start()
            _pass_on(near, far)
            back.join()


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            to.sendall(piece)
    for end in (source, to):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
