"""A driver, real services and real trainers, with a small API in place of Kubernetes' own.

What the cluster alone can show is in tests marked `cluster`.
"""

import json
import signal

from datamodels.aggregate import manifest
from datamodels.errors import ExitCode
from datamodels.fit.job import fits
from datamodels.run.specs import parse
from datamodels.runners.cluster import runs, templates
from datamodels.storage.local import LocalStore
from tests.e2e.driven import drive, place  # noqa: F401 - fixture
from tests.e2e.test_pipeline import linear
from tests.helpers.waiting import LIMIT
from tests.runners.cluster.conftest import api, cluster  # noqa: F401 - fixtures


def test_a_submitted_run_goes_on_after_its_driver_was_killed(api, cluster, place, tmp_path, eventually):  # noqa: F811
    environ, controller = place
    spec = parse({"name": "driven", "m": 180, "chunk": 100, "evaluate": {"subsets": 10, "models": 2}} | linear())
    runs.submit(cluster, spec)
    job = api.objects["jobs"][templates.named(spec.run, "dm")]
    train = templates.trainer_name(spec, "dm")
    with drive(environ, job) as first:
        eventually(lambda: train in api.objects["jobs"], while_true=lambda: first.poll() is None)
        first.send_signal(signal.SIGKILL)
    uid = api.objects["jobs"][train]["metadata"]["uid"]
    controller.hold.set()
    with drive(environ, job) as second:
        out, err = second.communicate(timeout=LIMIT)
    assert second.returncode == ExitCode.DONE, err
    assert api.objects["jobs"][train]["metadata"]["uid"] == uid
    assert controller.indexes == {0: 1, 1: 1}
    store = LocalStore(tmp_path / "store")
    found = [
        m for part in manifest.read_newest(store, spec.run).parts for m in range(part.models.start, part.models.stop)
    ]
    assert sorted(found) == list(range(spec.models))
    assert fits.read_newest_fit(store, spec.run).targets == 100
    assert "LDS" in out and json.loads(err.splitlines()[-1])["event"] == "done"
