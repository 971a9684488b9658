import threading

import pytest

from datamodels.cli.main import main
from datamodels.errors import ExitCode
from datamodels.run import specs
from datamodels.runners.cluster import templates
from datamodels.runners.cluster.state import JobState
from tests.runners.cluster.conftest import api, service_labels, spec  # noqa: F401 - fixture

SPEC = "name: try\ndataset: {load: 'a:b'}\ntrainer: {class: 'a:B'}\nm: 4000\nchunk: 100\nevaluate: {subsets: 0}\n"
RUN = spec().run
DRIVER = templates.named(RUN, "dm")
WHERE = "(release dm, store s3://bucket/prefix)"


@pytest.fixture
def datamodels(api, tmp_path, capsys):  # noqa: F811
    """datamodels(verb, ...) runs a verb on the cluster: (exit code, output, errors)"""
    (tmp_path / "spec.yaml").write_text(SPEC)

    def run(*arguments):
        arguments = [str(tmp_path / "spec.yaml") if a == "SPEC" else a for a in arguments]
        code = main([*arguments, "--kubeconfig", api.kubeconfig])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_run_from_submit_to_cancel(api, datamodels, eventually):  # noqa: F811
    assert specs.parse(spec().document()).run == RUN
    code, out, _ = datamodels("submit", "SPEC")
    assert code == 0 and out.splitlines()[0] == f"run {RUN} is submitted" and "status" in out.splitlines()[1]
    assert datamodels("submit", "SPEC", "-n", "ns")[1].startswith(f"run {RUN} is already submitted; nothing to do")
    assert datamodels("list", "--release", "dm") == (0, f"{RUN}  {JobState.WAITING.value}  {WHERE}\n", "")
    assert datamodels("list", "--release", "other") == (0, "", "")
    assert datamodels("status", RUN) == (0, f"{RUN}  waiting  {WHERE}\n", "")
    assert datamodels("status")[1] == f"{RUN}  waiting  {WHERE}\n"
    api.add_pod("driver", job=DRIVER)
    api.logs["driver"] = ["hello"]
    assert datamodels("logs", RUN) == (0, "hello\n", "")
    assert datamodels("cancel", RUN)[0] == 0
    eventually(lambda: not api.objects["jobs"])
    code, _, err = datamodels("status", RUN)
    assert code == ExitCode.CONFIG and err.startswith(f"datamodels: no such run: '{RUN}' in namespace ns")


def test_trainers_are_scaled_suspended_and_resumed(api, datamodels):  # noqa: F811
    datamodels("submit", "SPEC")
    code, _, err = datamodels("scale", RUN, "3")
    assert code == ExitCode.FAILED and f"run {RUN}: has no trainers now" in err
    owner = [{"uid": api.objects["jobs"][DRIVER]["metadata"]["uid"]}]
    labels = {templates.RUN_LABEL: RUN}
    spec = {"completionMode": "Indexed", "completions": 16, "parallelism": 4}
    train = api.add(
        "jobs", {"metadata": {"name": "train", "labels": labels, "ownerReferences": owner}, "spec": spec, "status": {}}
    )
    assert datamodels("scale", RUN, "8") == (0, f"run {RUN} has up to 8 trainers at once\n", "")
    assert (train["spec"]["parallelism"], train["spec"]["completions"]) == (8, 16)
    train["status"] |= {"completedIndexes": "0-8", "failedIndexes": "12"}
    assert datamodels("scale", RUN, "20")[0] == 0  # a Job may have more indexes only if it has as many pods
    assert (train["spec"]["parallelism"], train["spec"]["completions"]) == (30, 30)
    assert datamodels("scale", RUN, "2")[0] == 0
    assert (train["spec"]["parallelism"], train["spec"]["completions"]) == (2, 30)
    assert datamodels("suspend", RUN)[0] == 0 and train["spec"]["suspend"] is True
    assert "is suspended; `datamodels resume RUN`" in datamodels("status", RUN)[1]
    assert datamodels("resume", RUN) == (0, f"run {RUN} goes on\n", "") and train["spec"]["suspend"] is False


def test_status_of_a_namespace_says_what_keeps_its_services(api, datamodels):  # noqa: F811
    waiting = {"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    api.add_pod("agg", status={"containerStatuses": [waiting]}, **service_labels("aggregator"))
    code, out, _ = datamodels("status", "-n", "ns")
    assert code == 0 and out.startswith("aggregator: ErrImagePull: not found; ")


def test_watch_stays_until_the_end(api, datamodels):  # noqa: F811
    datamodels("submit", "SPEC")
    ends = threading.Timer(0.5, api.finish, (DRIVER, "Complete"))
    ends.start()
    code, out, err = datamodels("submit", "SPEC", "--watch")
    ends.join()
    assert (code, err) == (0, "") and out.splitlines() == [
        f"run {RUN} is already submitted; nothing to do",
        f"{RUN}  waiting  {WHERE}",
        f"{RUN}  done  {WHERE}",
        f"next       datamodels report {RUN} --namespace ns",
    ]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "forbidden: exceeded quota: jobs"), "exceeded quota: jobs; raise the quota, or ask for less"),
        ((422, "Job is invalid:\n spec: too long"), "cannot create"),
    ],
)
def test_what_the_cluster_refuses_is_one_line(api, datamodels, refusal, words):  # noqa: F811
    api.refusals["POST", "jobs"] = refusal
    code, out, err = datamodels("submit", "SPEC")
    assert (code, out) == (ExitCode.CONFIG, "") and words in err and err.count("\n") == 1


def test_a_faulty_spec_reaches_no_cluster(api, datamodels, tmp_path):  # noqa: F811
    (tmp_path / "spec.yaml").write_text(SPEC.replace("chunk: 100", "chunk: 1").replace("4000", "100001"))
    code, _, err = datamodels("submit", "SPEC")
    assert code == ExitCode.CONFIG and not api.calls
    assert any("at most 100,000 allowed" in line for line in err.splitlines())


def test_verify_is_for_the_store(datamodels):
    code, _, err = datamodels("status", RUN, "--verify")
    assert code == ExitCode.CONFIG and "--verify reads the store" in err
