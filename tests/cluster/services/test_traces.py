"""All pods send spans to the collector that the chart names: one trace for each run, and for each question."""

import json

import pytest

from tests.cluster.place import until
from tests.cluster.specs import written

COLLECT = """
import collections, gzip, http.server, json
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
seen = collections.defaultdict(set)


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    seen[span.trace_id.hex()].add(service)
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({trace: sorted(services) for trace, services in seen.items()}).encode())

    def log_message(self, *arguments):
        pass


http.server.ThreadingHTTPServer(("", 4318), Collector).serve_forever()
"""
"""A collector that keeps which services sent spans of which traces."""
READ = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:4318/').read().decode())"


@pytest.fixture
def collector(running):
    namespace = running.namespace
    namespace.make_pod("collector", code=COLLECT, labels={"app": "collector"})
    service = {"selector": {"app": "collector"}, "ports": [{"port": 4318}]}
    namespace.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "collector"}, "spec": service})
    running.upgrade(log={"traces": f"http://collector.{namespace.name}:4318"})
    yield lambda: json.loads(namespace.within("collector", "python", "-c", READ))
    running.upgrade()


def test_spans_of_all_pods_of_a_run_are_one_trace(running, collector, tmp_path):
    namespace = running.namespace
    path, spec = written(tmp_path, "breast-cancer", name="traced", m=300)
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    needed = {f"datamodels-{service}" for service in ("driver", "trainer", "aggregator", "fitter")}
    until(lambda: any(needed <= set(services) for services in collector().values()), lambda: f"only {collector()}")
    namespace.datamodels("query", "top", spec.run, "0")
    until(lambda: ["datamodels-query"] in collector().values(), lambda: f"no trace of a question: {collector()}")
