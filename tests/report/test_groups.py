import dataclasses

import numpy as np
import pytest

from datamodels.analyze import findings
from datamodels.analyze.patterns import conflicts
from datamodels.analyze.patterns.clusters import clusters
from datamodels.analyze.patterns.components import components
from datamodels.analyze.what_if.composition import commonest
from datamodels.report import groups, sections
from tests.report import made


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return made.findings(tmp_path_factory.mktemp("store"), targets="both")


def test_the_groups_are_those_of_the_analyses(found):
    shown, theta, seed = groups.data(found), found.fitted.solution.theta, found.run.spec.seed
    grouped = clusters(theta, seed=seed)
    axes = components(theta, k=findings.AXES, extremes=findings.ENDS, seed=seed)
    assert shown["map"]["cluster"] == grouped.cluster.tolist() and shown["map"]["id"] == list(range(found.run.n))
    np.testing.assert_allclose(shown["map"]["x"], axes.scores[:, 0], rtol=1e-3)
    np.testing.assert_allclose(shown["map"]["y"], axes.scores[:, 1], rtol=1e-3)
    assert [one["size"] for one in shown["clusters"]] == grouped.sizes.tolist()
    for i, one in enumerate(shown["components"]):
        assert [end["id"] for end in one["high"]] == axes.high[i].tolist() and one["high"][0]["picture"]
        assert one["share"][1] <= one["share"][0] <= one["share"][2]


def test_a_cluster_says_what_most_of_it_are(found):
    grouped = found.fitted.groups
    cluster = np.where(np.arange(found.run.n) == 1, 0, -1)
    alone = dataclasses.replace(grouped.clusters, cluster=cluster, sizes=np.array([1]), central=np.array([[1]]))
    one = dataclasses.replace(grouped, clusters=alone, commonest=commonest(cluster, found.run.target_labels))
    shown = groups.data(dataclasses.replace(found, fitted=dataclasses.replace(found.fitted, groups=one)))
    assert shown["clusters"][0]["most"] == f"1 of 1 are {made.NAMES[found.run.target_labels[1]]}"


def test_conflicts_are_named_by_their_classes(found):
    against = found.fitted.conflicts
    expected = conflicts.of_fit(found.run, found.fitted.solution, groups="classes")
    np.testing.assert_array_equal(against.effect, expected.effect)
    against.sure[:] = 1
    text = sections.conflicts(found, against)
    made.parsed(text)
    rows = text.count("<tr>") - 1
    assert rows == min(sections.CONFLICTS, len(against.effect)) and f"{against.effect[0]:+.3f}" in text
    assert "&lt;dog&gt;" in text and "<dog>" not in text
    against.sure[:] = 0
    assert "none surely harms" in sections.conflicts(found, against)


def test_what_there_is_none_of_is_left_out(tmp_path):
    prediction = made.findings(tmp_path / "a", trainer={"class": "a:B", "options": {"output": "prediction"}})
    assert prediction.fitted.conflicts is None
    none = made.findings(tmp_path / "b", fit=False)
    assert groups.data(none) is None and none.fitted is None
    bare = made.findings(tmp_path / "c")
    full = bare.fitted.solution
    nothing = {"indptr": 0 * full.indptr, "columns": full.columns[:0], "weights": full.weights[:0]}
    assert findings.groups(bare.run, dataclasses.replace(full, **nothing)) is None
