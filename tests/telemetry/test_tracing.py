"""A real run on this machine, whose processes send their spans to a collector and write their logs to files."""

import collections
import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from datamodels.errors import SettingsError
from datamodels.rpc.clients.query import QueryClient
from datamodels.runners.local import LocalRunner
from datamodels.settings import StoreSettings, TelemetrySettings
from datamodels.telemetry import bound, calls, tracing
from tests.helpers.waiting import LIMIT

service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

SPEC = """
name: traced
dataset: {load: "datamodels.testing.linear:load"}
trainer: {class: "datamodels.testing.linear:Linear"}
m: 40
chunk: 20
sub_chunk: 10
evaluate: {subsets: 4, models: 2}
fit: {estimator: lasso, lambdas: 4}
"""
OF_PROCESSES = {"serving", "stopped", "ready again", "not ready"}
"""Events that are about a process, and so about no run."""

Span = collections.namedtuple("Span", "service name trace number parent fields")


@contextlib.contextmanager
def collecting():
    """Yield the address of a collector, and the spans that it has got."""
    found = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            request = service.ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            for group in request.resource_spans:
                named = {field.key: field.value.string_value for field in group.resource.attributes}
                for span in (span for scope in group.scope_spans for span in scope.spans):
                    fields = {field.key: field.value.string_value for field in span.attributes}
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    found.append(Span(named["service.name"].removeprefix("datamodels-"), span.name, *ids, fields))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", found
        server.shutdown()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(home, run, spans) of a run."""
    home = tmp_path_factory.mktemp("home")
    (home / "spec.yaml").write_text(SPEC)
    with collecting() as (address, spans):
        variables = {"DATAMODELS_LOG_TRACES": address, "DATAMODELS_LOG_ACCESS": "true"}
        command = [sys.executable, "-m", "datamodels", "run", str(home / "spec.yaml"), "--home", str(home)]
        command += ["--quiet", "--json", "--trainers", "2"]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return home, json.loads(done.stdout)["run"], spans


def lines(home, service="*"):
    return [
        json.loads(line) for file in (home / "logs").glob(f"{service}.log") for line in file.read_text().splitlines()
    ]


def test_all_spans_of_a_run_are_one_trace(ran):
    _, run, spans = ran
    assert {span.trace for span in spans} == {spans[0].trace}
    assert {span.service for span in spans} == {"driver", "sampler", "trainer", "aggregator", "fitter", "query"}
    numbers = {span.number: span for span in spans}
    (root,) = (span for span in spans if not span.parent)
    assert root.name == f"run {run}" and len(numbers) == len(spans)
    assert all(span.parent in numbers for span in spans if span is not root)
    parents = {(span.service, span.name, numbers[span.parent].name) for span in spans if span.parent}
    assert {("driver", stage, root.name) for stage in ("sample", "train", "aggregate", "fit", "query")} <= parents
    assert ("trainer", "train chunk 1", root.name) in parents
    assert ("sampler", "datamodels.v1.SamplerService/GetSubsets", "train chunk 1") in parents
    put = "datamodels.v1.AggregatorService/PutOutputs"
    assert {("aggregator", put, "train chunk 1"), ("aggregator", "store create", put)} <= parents
    fit = "datamodels.v1.FitterService/Fit"
    assert {("fitter", fit, "fit"), ("fitter", "fit", fit), ("fitter", "store create", "fit")} <= parents
    assert any(span.service == "query" and span.name.startswith("store read") for span in spans)
    assert {span.fields["datamodels.run"] for span in spans if "/PutOutputs" in span.name} == {run}
    assert not any("GetProgress" in span.name for span in spans)  # it is asked several times a second


def test_every_line_of_a_log_says_for_which_run_and_request(ran):
    home, run, _ = ran
    found = lines(home)
    assert {line["service"] for line in found} == {"sampler", "trainer", "aggregator", "fitter", "query"}
    about = [line for line in found if line["event"] not in OF_PROCESSES]
    assert [line for line in about if line.get("run") != run and not line.get("method", "").endswith("/ListRuns")] == []
    served = [line for line in about if line["service"] != "trainer"]
    assert served and [line for line in served if not line.get("request")] == []
    (asked,) = {line["request"] for line in found if line["event"] == "fit started"}
    handled = [line for line in found if line.get("request") == asked and line["event"] == "call handled"]
    assert [line["method"] for line in handled] == ["/datamodels.v1.FitterService/Fit"]


def test_the_access_log_has_each_call_once(ran):
    home, _, _ = ran
    events = collections.Counter(line["event"] for line in lines(home, "aggregator"))
    assert events["call handled"] > events["audit"] > 0
    assert not any("grpc.health" in line.get("method", "") for line in lines(home))


def test_without_a_collector_nothing_of_it_is_imported(tmp_path, monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    tracing.configure(TelemetrySettings(), "test")
    with tracing.root("a"), tracing.span("b", run="a") as span, bound(run="a", request="r-1"):
        assert span is None and not tracing.enabled()
        assert calls.headers() == [(calls.REQUEST, "r-1"), (calls.RUN, "a")]
    program = "import sys, datamodels.services.query.__main__; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, executable=sys.executable)
    assert done.stdout.strip() == "[]"


def test_the_request_of_a_caller_is_in_the_log(ran, monkeypatch):
    home, run, _ = ran
    monkeypatch.setenv("DATAMODELS_LOG_ACCESS", "true")
    store = StoreSettings(url=f"file://{home / 'store'}")
    runner = LocalRunner(home / "again", store=store, trainers=1)
    with runner.services(["query"]) as served, QueryClient(served.query) as client, bound(request="asked-by-me"):
        client.top(run, 0, 1)
    (line,) = (line for line in lines(home / "again") if line.get("request") == "asked-by-me")
    assert (line["event"], line["run"], line["code"]) == ("call handled", run, "OK")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"pip install 'datamodels-ml\[otel\]'"):
        tracing.configure(TelemetrySettings(traces="http://127.0.0.1:1"), "test")
    assert not tracing.enabled()
