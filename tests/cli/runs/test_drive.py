import json
import os
import subprocess
import sys

from datamodels.cli.main import main
from datamodels.cli.runs.drive import WatchedView
from datamodels.errors import ExitCode
from datamodels.runners import metrics
from tests.helpers.waiting import LIMIT
from tests.runners.cluster.conftest import api, spec  # noqa: F401 - fixture


def test_progress_is_shown_as_metrics_and_logged_now_and_then(caplog):
    with caplog.at_level("INFO"), WatchedView().stage("train", "models") as bar:
        bar.expect(100, 10)
        for done in range(11, 101):
            bar.reach(done, "1 failed", remaining=12.3)
        bar.reach(100)
    assert metrics.DONE.labels("train")._value.get() == 100
    assert metrics.EXPECTED.labels("train")._value.get() == 100
    assert sum("progress" in record.getMessage() for record in caplog.records) == 2


def test_a_stage_that_ends_early_expects_no_more():
    with WatchedView().stage("train", "models") as bar:
        bar.expect(100, 10)
        bar.reach(60)
    assert metrics.EXPECTED.labels("train")._value.get() == metrics.DONE.labels("train")._value.get() == 60


def test_the_lds_of_each_fit_is_a_metric_with_its_interval(caplog):
    with caplog.at_level("INFO"):
        WatchedView().evaluated(200, 0.81, (0.79, 0.83))
        WatchedView().evaluated(400, 0.91, (0.89, 0.93))
    shown = {end: metrics.LDS.labels(end)._value.get() for end in ("low", "point", "high")}
    assert shown == {"low": 0.89, "point": 0.91, "high": 0.93}
    assert metrics.LDS_MODELS._value.get() == 400
    assert sum("evaluated" in record.getMessage() for record in caplog.records) == 2


def test_drive_is_for_pods(capsys):
    assert main(["drive"]) == ExitCode.CONFIG
    assert "use `datamodels submit` from outside" in capsys.readouterr().err


def test_a_driver_ends_with_the_code_of_what_is_wrong(api, tmp_path):  # noqa: F811
    """A spec that cannot be run ends with 2, upon which the Job is not tried again."""
    environ = {
        "DATAMODELS_CLUSTER_SPEC": json.dumps(spec().document()),
        "DATAMODELS_CLUSTER_OWNER": "driver",
        "DATAMODELS_CLUSTER_TEMPLATES": str(tmp_path),
        "DATAMODELS_STORE_URL": f"file://{tmp_path}/store",
        "KUBECONFIG": api.kubeconfig,
    }
    command = [sys.executable, "-m", "datamodels", "drive"]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr.splitlines()[-1].startswith("datamodels: dataset.load = 'a:b': cannot be imported")
