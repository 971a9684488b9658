"""Render the page of metrics."""

from __future__ import annotations

import importlib

from prometheus_client.metrics import MetricWrapperBase

from docs.generate.markdown import code, table
from docs.generate.source import CORE, SERVICES, modules

HEAD = """\
# Metrics

Every process serves its metrics at `/metrics`, by HTTP, on the port `DATAMODELS_SERVE_METRICS_PORT`. A histogram has
the usual series `_bucket`, `_sum` and `_count`. The number of series is the same for any number of models, subsets,
targets and runs.

"""
PROCESSES = {
    "datamodels_sample_": "sampler",
    "datamodels_train_": "trainer",
    "datamodels_aggregate_": "aggregator",
    "datamodels_fit_": "fitter",
    "datamodels_query_": "query",
    "datamodels_explorer_": "explorer",
    "datamodels_run_": "driver",
    "datamodels_store_": "every process that opens the store",
    "grpc_server_": "every process",
}
"""Which process has a metric, by the start of its name."""


def page() -> str:
    metrics = {name_of(metric): metric for metric in _defined()}
    sections = []
    for prefix, process in PROCESSES.items():
        rows = [_row(name, metrics[name]) for name in metrics if name.startswith(prefix)]
        sections.append(f"## {process}\n\n" + table(("name", "type", "labels", "meaning"), rows))
    return HEAD + "".join(sections)


def _defined() -> list[MetricWrapperBase]:
    """Returns the metrics that modules of ours define, in the order of the modules and of their lines."""
    found = []
    for package in (CORE, SERVICES):
        for name, text in modules(package):
            if "from prometheus_client import" in text:
                found += [v for v in vars(importlib.import_module(name)).values() if isinstance(v, MetricWrapperBase)]
    return found


def name_of(metric: MetricWrapperBase) -> str:
    """Returns the name that Prometheus shows; the client library leaves the suffix of counters out."""
    return metric._name + ("_total" if metric._type == "counter" else "")


def _row(name: str, metric: MetricWrapperBase) -> tuple[str, ...]:
    return code(name), metric._type, ", ".join(map(code, metric._labelnames)), metric._documentation
