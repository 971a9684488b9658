"""A real Prometheus that scrapes our processes as it would scrape their pods in a cluster.

Service discovery alone is ours: `Discovery` writes a file of targets with the `__meta_kubernetes_*` labels that a
cluster would give them, from what the chart renders. Each process is scraped twice, as if it were in two namespaces:
in ANNOTATED as deploy/prometheus.yaml says, in MONITORED as the Prometheus Operator makes of the chart's monitors.
"""

import contextlib
import json
import math
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import yaml

from tests.e2e import awaited
from tests.helm.conftest import CHART, COMPONENTS, render
from tests.helpers.waiting import LIMIT

ANNOTATED, MONITORED = "annotated", "monitored"
NAMESPACES = (ANNOTATED, MONITORED)
ROOT = CHART.parents[1]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, address):
        self.address = address

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters, doseq=True)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=LIMIT) as response:
            return json.load(response)["data"]

    def at(self, expression, time):
        """[(labels, value)]"""
        found = self.get("query", query=expression, time=time)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def over(self, expression, start, end, step=1):
        """[(labels, [(time, value)])]"""
        found = self.get("query_range", query=expression, start=start, end=end, step=step)["result"]
        return [(each["metric"], [(float(t), float(v)) for t, v in each["values"]]) for each in found]

    def samples(self, selector, start, end):
        """The values of each series as they were scraped."""
        found = self.get("query", query=f"{selector}[{math.ceil(end - start)}s]", time=end)["result"]
        return [[float(value) for _, value in each["values"]] for each in found]


@contextlib.contextmanager
def running(folder):
    """Run a Prometheus that scrapes the targets of `Discovery` every second, and evaluates our alerts."""
    scrapes = []
    for namespace, jobs in {ANNOTATED: annotated(), MONITORED: monitored()}.items():
        files = [{"files": [str(folder / f"{namespace}.json")], "refresh_interval": "1s"}]
        scrapes += [job | {"file_sd_configs": files} for job in jobs]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(CHART / "files" / "alerts.yaml")],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'series'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed = []
            for line in process.stderr:
                printed.append(line)
                if listens := re.search(r'msg="Listening on" address=(\S+)', line):
                    break
            else:
                raise AssertionError("".join(printed))
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would wait for a reader
            yield Prometheus(listens[1])
        finally:
            process.terminate()


def annotated():
    """The scrape jobs of deploy/prometheus.yaml, without their service discovery."""
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yaml").read_text())["scrape_configs"]
    return [{key: value for key, value in job.items() if key != "kubernetes_sd_configs"} for job in jobs]


def monitored():
    """The scrape jobs that the Prometheus Operator (pkg/prometheus/promcfg.go) makes of the chart's monitors."""
    chart = render("monitored", {"store": {"url": "s3://bucket/prefix"}, "monitoring": {"monitors": True}})
    for monitor in (*chart.of("ServiceMonitor"), *chart.of("PodMonitor")):
        spec, kind = monitor["spec"], monitor["kind"].removesuffix("Monitor").lower()
        (endpoint,) = spec["endpoints" if kind == "service" else "podMetricsEndpoints"]
        port = "endpoint_port_name" if kind == "service" else "pod_container_port_name"
        wanted = [(key, value) for key, value in spec["selector"]["matchLabels"].items()]
        wanted += [(e["key"], "|".join(e["values"])) for e in spec["selector"]["matchExpressions"]]
        rules = [_rule(f"{kind}_label_{_name(key)}", regex=value, action="keep") for key, value in wanted]
        rules += [
            _rule("pod_phase", regex="Failed|Succeeded", action="drop"),
            _rule(port, regex=endpoint["port"], action="keep"),
            _rule("namespace", target_label="namespace"),
            _rule("pod_container_name", target_label="container"),
            _rule("pod_name", target_label="pod"),
        ]
        for label in spec["podTargetLabels"]:
            rules.append(_rule(f"pod_label_{_name(label)}", regex="(.+)", target_label=_name(label)))
        rules.append(_rule(f"{kind}_label_{_name(spec['jobLabel'])}", regex="(.+)", target_label="job"))
        yield {"job_name": f"{kind}/{monitor['metadata']['name']}", "relabel_configs": rules}


def _rule(source, **rest):
    return {"source_labels": [f"__meta_kubernetes_{source}"], **rest}


def _name(label):
    return re.sub(r"\W", "_", label)


class Discovery(threading.Thread):
    """Keeps files of targets up to date with the address files of processes.

    An address file is named after the service, the Job of a trainer and its index, or a run and `-driver`. Once a
    process has been scraped, a file next to its address file says so; see `awaited`.
    """

    def __init__(self, folder, addresses, api, prometheus):
        super().__init__(daemon=True)
        self.folder, self.addresses, self.api, self.prometheus = folder, addresses, api, prometheus
        self.stop = threading.Event()
        chart = render("discovered", {"store": {"url": "s3://bucket/prefix"}})
        self.services = {c: chart.one("Service", c) for c in COMPONENTS}
        self.pods = {c: chart.one("Deployment", c)["spec"]["template"] for c in COMPONENTS}
        self.seen = None

    def run(self):
        while not self.stop.wait(0.25):
            targets = [target for file in sorted(self.addresses.glob("*.json")) for target in self.targets(file)]
            if targets != self.seen:
                for namespace in NAMESPACES:
                    there = [t | {"labels": t["labels"] | {"__meta_kubernetes_namespace": namespace}} for t in targets]
                    part = self.folder / "part"
                    part.write_text(json.dumps(there))
                    part.replace(self.folder / f"{namespace}.json")
                self.seen = targets
            for labels, places in self.prometheus.at("count by (pod) (up == 1)", time.time()):
                file = self.addresses / f"{labels['pod']}.json"
                if places == len(NAMESPACES) and file.exists():
                    awaited.seen(file).touch()

    def targets(self, file):
        try:
            host, _, port = json.loads(file.read_text())["metrics_address"].rpartition(":")
        except FileNotFoundError:  # the process has just ended
            return
        component = file.stem.rpartition("-")[0]
        job = self.api.objects["jobs"].get(component)
        template = self.pods[component] if job is None else job["spec"]["template"]
        container = template["spec"]["containers"][0]
        labels = {"pod_name": file.stem, "pod_ip": host, "pod_phase": "Running"}
        labels |= {"pod_container_name": container["name"]}
        labels |= {f"pod_label_{_name(key)}": value for key, value in template["metadata"]["labels"].items()}
        annotations = template["metadata"]["annotations"]
        labels |= {f"pod_annotation_{_name(key)}": value for key, value in annotations.items()}
        labels["pod_annotation_prometheus_io_port"] = port  # each pod has a 9090 of its own, a machine has one
        for named in container["ports"]:
            more = {"pod_container_port_name": named["name"]}
            if job is None:
                service = self.services[component]
                more |= {f"service_label_{_name(key)}": value for key, value in service["metadata"]["labels"].items()}
                more |= {"endpoint_port_name": named["name"]}
            given = {f"__meta_kubernetes_{key}": value for key, value in (labels | more).items()}
            yield {"targets": [f"{host}:{port}"], "labels": given}
