"""Dashboards and alerts for two runs that a real Prometheus watches: every panel shows data, and the data are right."""

import dataclasses
import itertools
import json
import math
import re
import shutil
import statistics
import time

import pytest
import yaml

from datamodels.errors import ExitCode, RunNotFoundError
from datamodels.rpc.clients.fitter import FitState, FitterClient
from datamodels.rpc.clients.query import QueryClient
from datamodels.run.specs import parse
from datamodels.runners.cluster import runs, templates
from datamodels.runners.cluster.api import connect
from datamodels.settings import ClientSettings
from tests.e2e import prometheus
from tests.e2e.driven import drive, place_of, serving_at
from tests.e2e.prometheus import CHART, NAMESPACES, Discovery, Prometheus
from tests.helm.conftest import COMPONENTS
from tests.helpers.waiting import LIMIT, eventually
from tests.runners.cluster.conftest import served

pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is missing; Debian has it in `prometheus`"
)
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (CHART / "files" / "dashboards").glob("*.json")}
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
OF_SPEED = {"DatamodelsQuerySlow", "DatamodelsCommitsSlow", "DatamodelsTrainersWait", "DatamodelsNotScraped"}
"""Alerts that something takes too long: on a slow machine they are right to fire."""
GPUS, PRICE = 2, 3.5
ASKED = 200


def spec(name, m, chunk):
    return parse(
        {
            "name": name,
            "dataset": {"load": "datamodels.testing.linear:load", "options": {"targets": 100}},
            "trainer": {"class": "tests.e2e.awaited:Linear", "options": {"noise": 3.0, "pause": 0.01}},
            "m": m,
            "chunk": chunk,
            "sub_chunk": 20,
            "evaluate": {"subsets": 20, "models": 4},
            "fit": {"lambdas": 3, "tolerance": 0.05},
        }
    )


FEW, MANY = spec("few", 120, 500), spec("many", 1120, 600)


@dataclasses.dataclass(frozen=True)
class Watched:
    """What Prometheus knows of the runs FEW and MANY, one after the other; spans are (start, end) of a driver."""

    prometheus: Prometheus
    few: tuple[float, float]
    many: tuple[float, float]

    @property
    def start(self):
        return self.few[0]

    @property
    def end(self):
        return self.many[1]

    def shown(self, expression, namespace, run=".*", instant=False):
        """What Grafana shows of an expression with its variables: [(labels, [(time, value)])]."""
        values = {"__range": f"{math.ceil(self.end - self.start)}s", "gpus": GPUS, "price": PRICE}
        for variable, value in (values | {"namespace": namespace, "run": run}).items():
            expression = expression.replace(f"${variable}", str(value))
        assert "$" not in expression
        if instant:
            return [(labels, [(self.end, value)]) for labels, value in self.prometheus.at(expression, self.end)]
        return self.prometheus.over(expression, self.start, self.end)

    def panel(self, title, namespace, run=".*"):
        """The series of the panel whose title begins so, in the order of its targets."""
        found = [p for d in DASHBOARDS.values() for p in d["panels"] if p["title"].startswith(title)]
        (panel,) = found
        targets = panel["targets"]
        return [s for t in targets for s in self.shown(t["expr"], namespace, run, t.get("instant", False))]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    addresses = folder / "home" / "addresses"
    with served(folder) as api, place_of(folder, api) as (environ, controller), prometheus.running(folder) as found:
        controller.hold.set()
        discovery = Discovery(folder, addresses, api, found)
        discovery.start()
        spans = [_taken(api, environ, addresses, each) for each in (FEW, MANY)]
        _fit_until_seen(environ, found)
        _ask(environ, found)
        discovery.stop.set()
        yield Watched(found, spans[0], (spans[1][0], time.time() + 1))  # the last step is of all that was seen


def _taken(api, environ, addresses, chosen):
    started = time.time()
    runs.submit(connect(kubeconfig=api.kubeconfig), chosen)
    job = templates.named(chosen.run, "dm")
    with (
        serving_at(addresses / f"{job}-driver.json") as where,
        drive(environ | where | {"DATAMODELS_CLUSTER_SETTLE": "2.5"}, api.objects["jobs"][job]) as driver,
    ):
        _, err = driver.communicate(timeout=LIMIT)
    assert driver.returncode == ExitCode.DONE, err
    return started, time.time()


def _fit_until_seen(environ, found):
    """Fit again, by a slow solver, until Prometheus has seen a fit that runs: a fast one ends between two scrapes."""
    query = "count(max_over_time(datamodels_fit_running[1h]) == 1)"
    slow = {"estimator": "lasso", "solver": "saga", "tolerance": 1e-4, "patience": 1000}
    settings, lambdas = ClientSettings.load(environ), itertools.count(100)
    with FitterClient(settings.fitter, settings) as client:
        while found.at(query, time.time()) != [({}, len(NAMESPACES))]:
            fit = client.fit(MANY.run, MANY.fit.model_copy(update=slow | {"lambdas": next(lambdas)}))
            (*_, ended) = client.watch(MANY.run, fit.digest, LIMIT)
            assert ended.state is FitState.DONE, ended.error


def _ask(environ, found):
    """Ask a question many times, and one about an unknown run, and wait until Prometheus has counted them."""
    settings = ClientSettings.load(environ)
    with QueryClient(settings.query, settings) as client:
        with pytest.raises(RunNotFoundError):
            client.run("none-000000000000")
        for _ in range(ASKED):
            client.top(MANY.run, 17, 5)
    query = f'count(grpc_server_handled_total{{grpc_method="TopInfluences",grpc_code="OK"}} >= {ASKED})'
    eventually(lambda: found.at(query, time.time()) == [({}, len(NAMESPACES))])


def points(series):
    return [value for _, values in series for _, value in values]


def of(run, series, **labels):
    """[(time, value)] of the one series of a run."""
    wanted = (labels | {"datamodels_run": run.run}).items()
    (values,) = [values for found, values in series if wanted <= found.items()]
    return values


def last(series):
    """{values of labels, without the namespace: last value}"""
    return {tuple(v for k, v in labels.items() if k != "namespace"): values[-1][1] for labels, values in series}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_query_of_every_panel_shows_something_of_its_namespace(watched, namespace):
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                found = watched.shown(target["expr"], namespace, instant=target.get("instant", False))
                assert any(math.isfinite(value) for value in points(found)), (panel["title"], target["expr"])
                assert {labels.get("namespace", namespace) for labels, _ in found} == {namespace}, panel["title"]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_progress_is_what_is_committed_of_what_there_is_to_do(watched, namespace):
    progress = watched.panel("Progress", namespace)
    stages = ("sample", "train", "aggregate", "fit", "query")
    assert last(progress) == {(each.run, stage): 1 for each in (FEW, MANY) for stage in stages}
    committed = watched.panel("Models committed so far", namespace)
    assert last(committed) == {(each.run,): each.models for each in (FEW, MANY)}
    done, part = dict(of(MANY, committed)), dict(of(MANY, progress, stage="train"))
    assert part == {at: pytest.approx(models / MANY.models) for at, models in done.items()}
    assert len(set(part.values())) > 3, "it was not seen on its way"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_time_left_is_about_right_and_none_at_the_end(watched, namespace):
    left = of(MANY, watched.panel("Time left", namespace))
    done = of(MANY, watched.panel("Models committed so far", namespace))
    (start, _), there = done[0], dict(done)
    # By the pace since the start; how long it then took says as much of the machine.
    right = [(seconds, (MANY.models - there[at]) * (at - start) / there[at]) for at, seconds in left if there[at]]
    assert 0.25 < statistics.median(seconds / wanted for seconds, wanted in right if wanted) < 4, right
    assert all(seconds >= 0 for _, seconds in left) and left[-1][1] == 0


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_cost_and_yield_are_of_the_time_that_trainers_were_up(watched, namespace):
    selector = f'datamodels_train_up_seconds{{namespace="{namespace}",datamodels_run="{MANY.run}"}}'
    pods = watched.prometheus.samples(selector, watched.start, watched.end)
    assert len(pods) == 2, "one for each index"
    hours = sum(values[-1] for values in pods) * GPUS / 3600
    (cost,) = points(watched.panel("Cost so far", namespace, MANY.run))
    assert cost == pytest.approx(hours * PRICE)
    seen = sum(values[-1] - values[0] for values in pods) * GPUS / 3600
    done = [models for _, models in of(MANY, watched.panel("Models committed so far", namespace))]
    rate = of(MANY, watched.panel("Models committed per GPU-hour", namespace))[-1][1]
    assert 0.9 * seen <= (done[-1] - done[0]) / rate <= 1.1 * hours


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_lds_of_each_run_lies_in_its_interval(watched, namespace):
    for run in (FEW, MANY):
        low, point, high = (
            of(run, watched.panel("LDS", namespace), end=end)[-1][1] for end in ("low", "point", "high")
        )
        assert 0 < low < point < high < 1
        assert of(run, watched.panel("Models behind this LDS", namespace))[-1][1] == run.m


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_latencies_and_rates(watched, namespace):
    median, p99 = (values[-1][1] for _, values in watched.panel("Commit latency", namespace))
    assert 0 < median <= p99 < 60
    assert last(watched.panel("Queries per second", namespace))["TopInfluences",] * 300 > ASKED / 2, "in five minutes"
    assert 0 < last(watched.panel("Queries: p99", namespace))["TopInfluences",] < 60
    refused = last(watched.panel("Failed calls", namespace))
    assert list(refused) == [("NOT_FOUND", "datamodels.v1.QueryService")]


def test_dashboards_offer_every_namespace_and_run(watched):
    wanted = {"namespace": set(NAMESPACES), "run": {FEW.run, MANY.run}}
    for dashboard in DASHBOARDS.values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] != "query":
                continue
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            found = watched.prometheus.get(f"label/{label}/values", **{"match[]": selector.replace("$namespace", ".*")})
            assert set(found) == wanted[variable["name"]]


def test_a_run_can_be_looked_at_alone(watched):
    progress = watched.panel("Progress", NAMESPACES[0], MANY.run)
    assert {labels["datamodels_run"] for labels, _ in progress} == {MANY.run}


def test_every_alert_can_be_judged_and_none_would_fire_while_all_is_well(watched):
    """What an alert waits for before it fires may be true for a while, but not for half of the time."""
    (group,) = watched.prometheus.get("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {alert["alert"] for alert in ALERTS} > OF_SPEED
    assert {(rule["health"], rule.get("lastError", "")) for rule in group["rules"]} == {("ok", "")}
    active = watched.prometheus.over("group by (alertname) (ALERTS)", watched.start, watched.end)
    times = {labels["alertname"]: len(values) / (watched.end - watched.start) for labels, values in active}
    allowed = {alert["alert"]: 0.5 if "for" in alert else 0 for alert in ALERTS} | dict.fromkeys(OF_SPEED, 1)
    assert {name: share for name, share in times.items() if share > allowed[name]} == {}


@pytest.mark.parametrize("component", [*COMPONENTS, "driver", "trainer"])
def test_there_are_as_many_series_of_few_models_as_of_many(watched, component):
    """Compare the series of every process after each run: no label depends on models, targets or subsets."""
    few, many = (series(watched, component, *span) for span in (watched.few, watched.many))
    assert few and few == many
    assert len(few) < 900


def series(watched, component, start, end):
    selector = f'namespace="{NAMESPACES[0]}",app_kubernetes_io_component="{component}"'
    selector += ',__name__!~"up|scrape_.*|ALERTS.*"'
    found = watched.prometheus.at(f"last_over_time({{{selector}}}[{math.ceil(end - start)}s])", end)
    places = ("pod", "instance", "datamodels_run")
    return {tuple(sorted((k, v) for k, v in labels.items() if k not in places)) for labels, _ in found}
