import json

import pytest
from datamodels.services.trainer import shares as trainer
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import ConfigError, SpecError
from datamodels.rpc.auth import audience
from datamodels.runners.cluster import templates
from datamodels.settings import IndexedJobSettings
from tests.helm.schemas import VERSIONS, validator
from tests.runners.cluster.conftest import OWNER, spec
from tests.runners.cluster.conftest import templates as chart


def config_map(files):
    return {"metadata": {"name": "dm-jobs", "uid": "uid-of-the-chart"}, "data": files}


def filled(name="defaults"):
    run, files = spec(), chart(name)
    jobs = [templates.driver_job(config_map(files), run), templates.trainer_job(files, run, [0, 1, 2, 7], OWNER)]
    return jobs + ([templates.fitter_job(files, run, OWNER)] if "fitter.yaml" in files else [])


@pytest.mark.parametrize("version", VERSIONS)
def test_filled_templates_fit_the_strict_schemas(version):
    for job in [*filled("gpu"), *filled("tls")]:
        assert not list(validator(version, "Job", "batch/v1").iter_errors(job))


def test_tokens_of_drivers_and_trainers_are_for_the_run_alone():
    driver, trainer = filled("tls")
    for job in (driver, trainer):
        (token,) = [v for v in job["spec"]["template"]["spec"]["volumes"] if v["name"] == templates.TOKEN_VOLUME]
        (source,) = token["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == audience(spec().run) != audience(spec(m=5000).run)
    assert not any(
        v["name"] == templates.TOKEN_VOLUME for j in filled() for v in j["spec"]["template"]["spec"]["volumes"]
    )


def test_the_driver_is_named_by_the_spec_and_carries_it():
    job = filled()[0]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert job["metadata"]["name"] == f"{spec().run}-dm"
    assert json.loads(env["DATAMODELS_CLUSTER_SPEC"]) == spec().document()
    assert job["metadata"]["labels"][templates.RUN_LABEL] == spec().run
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "dm-jobs", "uid": "uid-of-the-chart", "controller": True}
    assert job["metadata"]["ownerReferences"] == [owner]


def test_trainers_are_one_indexed_job_that_the_driver_owns():
    job = filled()[1]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["spec"]["completions"] == 4 and job["spec"]["completionMode"] == "Indexed"
    assert container["args"] == ["--run", spec().run, "--chunks", "0-2,7", "--indexes", "4"]
    assert job["metadata"]["ownerReferences"][0]["uid"] == OWNER.owner_uid
    assert job["spec"]["maxFailedIndexes"] == 4
    assert job["spec"]["template"]["metadata"]["labels"][templates.RUN_LABEL] == spec().run


def test_what_the_failure_policies_must_say():
    """Rows a1 to a3: preemption and SIGTERM cost no try, a configuration error is not tried again."""
    driver, trainer = (job["spec"] for job in filled())
    rules = [(r["action"], r.get("onExitCodes", {}).get("values")) for r in trainer["podFailurePolicy"]["rules"]]
    assert rules == [("Ignore", None), ("Ignore", [143]), ("Ignore", [75]), ("FailIndex", [2])]
    assert trainer["podFailurePolicy"]["rules"][0]["onPodConditions"] == [
        {"type": "DisruptionTarget", "status": "True"}
    ]
    assert trainer["podReplacementPolicy"] == "Failed" and trainer["backoffLimitPerIndex"] > 0
    assert trainer["ttlSecondsAfterFinished"] > 0 and trainer["template"]["spec"]["restartPolicy"] == "Never"
    assert [r["action"] for r in driver["podFailurePolicy"]["rules"]] == ["Ignore", "FailJob"]


def test_a_queue_suspends_trainers_until_kueue_admits_them():
    assert filled()[1]["spec"]["suspend"] is False
    driver, trainer, fitter = filled("gpu")
    assert trainer["spec"]["suspend"] is fitter["spec"]["suspend"] is True and "suspend" not in driver["spec"]
    assert trainer["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    (container,) = trainer["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert trainer["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(("chunks", "fewest"), [(100, "4"), (5, "4"), (4, "3"), (2, "1"), (1, None)])
def test_a_run_may_start_with_fewer_pods_than_it_asks_for(chunks, fewest):
    """Kueue refuses a Job whose fewest pods are not less than those that it can have at once."""
    run = spec(m=100 * chunks)
    job = templates.trainer_job(chart("gpu"), run, range(chunks), OWNER)
    assert job["metadata"].get("annotations", {}).get(templates.MIN_PARALLELISM) == fewest
    assert "annotations" not in filled()[1]["metadata"]


@pytest.mark.parametrize(("chunks", "indexes"), [(1, 1), (15, 15), (16, 16), (3000, 16)])
def test_a_run_takes_a_few_pods_for_each_that_runs_at_once(chunks, indexes):
    run = spec(m=100 * chunks)
    job = templates.trainer_job(chart(), run, range(chunks), OWNER)
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (4, indexes)


def test_trainers_may_import_what_the_spec_of_their_job_names():
    run = spec()
    (container,) = templates.trainer_job(chart(), run, [0], OWNER)["spec"]["template"]["spec"]["containers"]
    assert {"name": "DATAMODELS_TRAINER_SPEC", "value": run.hash} in container["env"]


def test_more_indexes_than_the_job_api_allows_are_no_spec():
    with pytest.raises(SpecError, match=r"makes 100,001 chunks .* at most 100,000 allowed"):
        spec(m=10_000_001, chunk=100)


def test_names_of_pods_stay_within_63_characters():
    run = spec(name="x" * 40)
    for release in ("dm", "r" * 53):
        for name in (templates.named(run.run, release), templates.trainer_name(run, release)):
            assert len(f"{name}-99999-abcde") <= 63 and name != templates.named(run.run, "r" * 52)
    assert templates.named("digits-0123456789ab", "dm") == "digits-0123456789ab-dm"


def test_a_list_of_chunks_that_is_too_long_becomes_all_of_them():
    run = spec(m=10_000_000, chunk=100)
    job = templates.trainer_job(chart(), run, range(0, run.chunks, 2), OWNER)
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][3] == "0-99999"
    assert job["spec"]["completions"] == 16


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 50))
def test_the_indexes_share_the_chunks(chunks, indexes):
    """What the template says is what the trainers read: each chunk once, none empty-handed, evenly."""
    chunks = sorted(chunks)
    indexes = min(indexes, len(chunks))
    text = templates.chunk_list(chunks)
    shares = [trainer.parse(text, indexes, IndexedJobSettings(i)).own() for i in range(indexes)]
    assert [chunk for share in shares for chunk in share] == chunks
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_spec_that_is_too_large_for_a_job_is_refused():
    with pytest.raises(SpecError, match="at most 102400 allowed; shorten its options"):
        templates.driver_job(config_map(chart()), spec(dataset={"load": "a:b", "options": {"x": "y" * 110_000}}))


@pytest.mark.parametrize(
    "text", ["", "a: [", "spec: {}", "kind: Job\nmetadata: {}\nspec: {template: {spec: {containers: []}}}"]
)
def test_a_template_that_is_none_is_named(text):
    with pytest.raises(ConfigError, match=r"template driver\.yaml of the chart: is not a Job with a container named"):
        templates.driver_job(config_map({"driver.yaml": text}), spec())


def test_the_chart_of_a_namespace_is_found(api, cluster):
    assert set(templates.find(cluster)["data"]) == {"driver.yaml", "trainer.yaml"}
    assert templates.find(cluster, "dm")
    with pytest.raises(
        ConfigError, match="namespace ns: no release other of the chart is installed; install it with `helm install"
    ):
        templates.find(cluster, "other")
    second = json.loads(json.dumps(api.objects["configmaps"]["dm-jobs"]).replace("dm", "dn"))
    api.add("configmaps", second)
    with pytest.raises(ConfigError, match="has the releases dm, dn; choose one with --release"):
        templates.find(cluster)
    api.objects["configmaps"].clear()
    with pytest.raises(ConfigError, match="namespace ns: no chart is installed; install it with `helm install"):
        templates.find(cluster)
