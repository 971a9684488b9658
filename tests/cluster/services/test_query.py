"""Two query replicas behind a headless Service, asked by the shipped client from another pod, one of them killed."""

import json
import re
import subprocess

import pytest

from tests.cluster.place import METRICS, until
from tests.cluster.specs import written
from tests.helpers.waiting import LIMIT

ASK = """
import json, sys, threading, time
from datamodels.rpc.clients.query import QueryClient
from datamodels.settings import ClientSettings
run, seconds, threads = sys.argv[1], float(sys.argv[2]), 4
settings = ClientSettings.load()
took, errors = [[] for _ in range(threads)], []
with QueryClient(settings.query, settings) as client:
    targets = client.run(run).targets
    end = time.monotonic() + seconds

    def ask(mine):
        while (began := time.monotonic()) < end:
            try:
                if len(mine) % 2:
                    client.top(run, len(mine) % targets, 5)
                else:
                    client.predict_columns(run, range(len(mine) % 99))
            except Exception as error:
                errors.append(repr(error))
            mine.append(time.monotonic() - began)
            time.sleep(0.02)

    asking = [threading.Thread(target=ask, args=(mine,)) for mine in took]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
slowest = max(map(max, took))
print(json.dumps({"calls": sum(map(len, took)), "slowest": slowest, "failed": len(errors), "errors": errors[:3]}))
"""
SECONDS = 45


@pytest.fixture(scope="module")
def fitted(running, tmp_path_factory):
    """The name of a run that can be asked about."""
    path, spec = written(tmp_path_factory.mktemp("specs"), "breast-cancer", m=300)
    running.namespace.datamodels("submit", path, "--watch")
    running.make_tools()
    return spec.run


def answered(namespace, pod):
    """Calls that a query pod has answered."""
    text = namespace.within(pod, "python", "-c", METRICS)
    pattern = r'^grpc_server_handled_total\{.*grpc_code="OK".*grpc_method="TopInfluences".*\} (\S+)'
    return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))


@pytest.mark.parametrize("how", ["killed", "deleted"])
def test_no_call_fails_while_a_replica_goes(running, fitted, how):
    namespace = running.namespace
    two = until(lambda: len(found := namespace.ready("query")) == 2 and found, "two query replicas")
    was = {pod: answered(namespace, pod) for pod in two}
    command = ["kubectl", "-n", namespace.name, "exec", "tools", "--", "python", "-c", ASK, fitted, str(SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        until(lambda: all(answered(namespace, pod) > was[pod] for pod in two), "calls to both replicas")
        if how == "killed":
            namespace.kill(two[0])
        else:
            namespace.kubectl("delete", "pod", two[0], "--wait=false")
        assert asking.poll() is None, "asked for too short a time"
        summary = json.loads(asking.communicate(timeout=LIMIT)[0])
    print(how, summary)
    assert summary["failed"] == 0, summary
    assert summary["calls"] > 100, summary
