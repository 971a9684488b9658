"""A real cluster, reached by helm, kubectl and our own commands as people type them.

`make test-cluster` runs these tests in the cluster of KUBECONFIG; plain pytest does not, for it may be anybody's.

Each namespace is made for a test, enforces the *restricted* pod security standard, and goes afterwards. The object
store is one pod in a namespace of its own: an outside store, as far as the chart knows, that survives its releases.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.place import Namespace, Release, make_store

ROOT = Path(__file__).parents[2]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session", autouse=True)
def reachable(request):
    """Skips where there is no cluster to use, and says why."""
    if "cluster" not in request.config.option.markexpr:
        pytest.skip("installs things in the cluster of KUBECONFIG; ask for it by `make test-cluster`")
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    for program in ("kubectl", "helm", "git"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing")
    done = subprocess.run(
        ["kubectl", "get", "nodes", "--request-timeout=10s"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


@pytest.fixture(scope="session")
def store(reachable):
    """The namespace of the object store."""
    with Namespace.made("store") as namespace:
        make_store(namespace)
        yield namespace


@pytest.fixture
def namespace(reachable, request):
    with Namespace.made(request.node.originalname.removeprefix("test_")[:20]) as made:
        yield made


@pytest.fixture
def release(namespace, store):
    """A Release of the chart that is not installed yet, with the Secret for the store."""
    return Release(namespace, store)


@pytest.fixture(scope="module")
def running(reachable, store, request):
    """A Release that is installed once for a module."""
    with Namespace.made(Path(request.node.fspath).stem.removeprefix("test_")) as made:
        release = Release(made, store)
        release.install()
        yield release
