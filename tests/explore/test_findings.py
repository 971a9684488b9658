import dataclasses
import re

import numpy as np
import pytest

from datamodels.analyze import findings as gathered
from datamodels.analyze.patterns import conflicts, review
from datamodels.analyze.quality import interval, trend, verdict
from datamodels.analyze.what_if import support
from datamodels.explore import findings
from tests.analyze.quality.test_curve import DIGITS, points_of
from tests.report import made


def words(part):
    return " ".join(part.text)


def test_fragility_counts_the_targets_with_a_support(tmp_path):
    found = made.findings(tmp_path, targets="both")
    shown = findings.fragility(found.run, found.fitted.fragility)
    statuses = [support.support(found.run, found.fitted.solution, j) for j in range(found.run.n)]
    right = [one for one in statuses if one.status != support.WRONG]
    sizes = [len(one.columns) for one in right if one.status == support.FOUND]
    low, high = interval.share(len(sizes), len(right))
    assert f"Of {len(right)} targets" in words(shown) and f"{len(sizes) / len(right):.0%} have a support" in words(
        shown
    )
    assert f"interval {low:.0%} to {high:.0%}" in words(shown) and "1 examples" not in words(shown)
    assert f"median support has {np.median(sizes):,.0f} example" in words(shown)
    assert shown.removed == [0, *sorted(set(sizes))] and shown.share[-1] == len(sizes) / len(right)


@pytest.mark.parametrize("kind, unit", [("uniform", "example"), ("grouped", "group")])
def test_no_supports_at_all(tmp_path, kind, unit):
    found = made.findings(tmp_path, design={"kind": kind})
    found.fitted.solution.weights[:] = -1
    none = findings.fragility(found.run, review.fragility(found.run, found.fitted.solution, range(found.run.n)))
    assert re.search(rf"None of the others has a support of up to \d+ {unit}s?: ", words(none)) and not none.removed


def test_an_output_without_a_threshold_is_not_fragile(tmp_path):
    found = made.findings(tmp_path, trainer={"class": "a:B", "options": {"output": "loss"}})
    assert "has no threshold" in words(findings.of(found).fragility)


def test_quality_begins_with_the_verdict(tmp_path):
    found = made.findings(tmp_path)
    judged = verdict.of_evaluation(found.evaluation, found.fitted.record.rows)
    shown = findings.quality(found, found.fitted)
    assert (shown.word, shown.text[0], shown.lds) == (judged.word, judged.text, found.evaluation.lds)
    assert "Training is random" in words(shown) and sum(shown.scores.counts) == len(found.evaluation.scores)
    true = found.fitted.predictions.outputs
    for target, mean in list(zip(shown.points.target, shown.points.mean, strict=True))[:5]:
        assert np.isclose(true[:, :, target].mean(axis=1), mean, rtol=1e-3).any()


def test_outputs_that_never_vary_are_not_called_random(tmp_path):
    found = made.findings(tmp_path)
    same = dataclasses.replace(found.evaluation, constant=found.evaluation.targets)
    text = words(findings.quality(found, dataclasses.replace(found.fitted, evaluation=same)))
    assert "Training is random" not in text and "are the same for each model of the unseen subsets" in text


def test_a_histogram_counts_each_value_and_those_above_1_as_1():
    found = findings._histogram(np.array([0.61, 0.62, 0.91, -0.3, 1.02]))
    assert sum(found.counts) == 5 and max(found.counts) == 2 and found.counts[-1] == 1
    assert (found.edges[0], found.edges[-1]) == (-0.3, 1) and len(found.edges) == len(found.counts) + 1


def test_a_run_that_still_trains_is_marked(tmp_path):
    half = findings.of(made.findings(tmp_path / "a", stop=100))
    assert "Partial: 100 of 218 models are committed. The newest fit uses 100 of them." in words(half)
    assert "Not measured: fewer than 3 of the unseen subsets" in words(half.quality)
    none = findings.of(made.findings(tmp_path / "b", stop=100, fit=False))
    assert "No fit is finished yet" in words(none) and "(46%)" in words(none) and none.quality is None
    whole = findings.of(made.findings(tmp_path / "c"))
    assert "Partial" not in words(whole) and "by number" not in words(whole)


def test_the_figures_are_those_of_the_evaluation(tmp_path):
    found = made.findings(tmp_path)
    low, high = found.evaluation.interval
    figures = findings.of(dataclasses.replace(found, fitted=dataclasses.replace(found.fitted, unusual=1))).figures
    assert figures[0] == (
        f"{found.evaluation.lds:.3f}",
        f"LDS, 95% interval {low:.3f} to {high:.3f}".replace("-", "\u2212"),
    )
    assert (
        figures[1][0] == f"{found.evaluation.ceiling:.3f}" and ("1", "targets whose fit did not end as ok") in figures
    )


def test_a_curve_has_its_points_and_a_forecast_if_they_are_enough(tmp_path):
    fit = made.findings(tmp_path).fitted
    for points, ahead in ((points_of(DIGITS), True), (points_of({100: (-0.15, 0.1), 200: (0.3, 0.05)}), False)):
        shown = findings.curve(dataclasses.replace(fit, curve=points, ahead=trend.ahead(points)))
        assert [one[:2] for one in shown.measured] == [(point.models, point.lds) for point in points]
        assert bool(shown.ahead) == ahead and ("too few points" in words(shown)) != ahead
        assert not ahead or shown.ahead[-1][0] == trend.AHEAD * points[-1].models


def test_conflicts_are_named_by_their_classes(tmp_path):
    found = made.findings(tmp_path, targets="both")
    against = found.fitted.conflicts
    expected = conflicts.of_fit(found.run, found.fitted.solution, groups="classes")
    np.testing.assert_array_equal(against.effect, expected.effect)
    against.sure[:] = 1
    shown = findings.conflicts(found, against)
    assert len(shown.pairs) == min(findings.CONFLICTS, len(against.effect))
    assert shown.pairs[0].effect == against.effect[0]
    assert {pair.source for pair in shown.pairs} <= set(made.NAMES)
    against.sure[:] = 0
    assert "none surely harms" in words(findings.conflicts(found, against))


def test_what_there_is_none_of_is_left_out(tmp_path):
    prediction = made.findings(tmp_path / "a", trainer={"class": "a:B", "options": {"output": "prediction"}})
    assert prediction.fitted.conflicts is None and findings.of(prediction).conflicts is None
    bare = made.findings(tmp_path / "c")
    full = bare.fitted.solution
    nothing = {"indptr": 0 * full.indptr, "columns": full.columns[:0], "weights": full.weights[:0]}
    assert gathered.groups(bare.run, dataclasses.replace(full, **nothing)) is None


@pytest.mark.parametrize("output", ["margin", "loss"])
def test_the_target_to_begin_with_is_predicted_well_and_right(tmp_path, output):
    found = made.findings(tmp_path, trainer={"class": "a:B", "options": {"output": output}})
    targets = [found.fitted.targets[i] for i in range(found.run.n)]
    usable = [one for one in targets if one.nonzeros and (one.unseen.wrong is None or one.unseen.wrong.value <= 0.5)]
    sure = {one.number: one.unseen.score.value if one.unseen.score else -2 for one in usable}
    assert sure[findings.of(found).first] == max(sure.values())
    assert findings.of(found, among=[1]).first is None, "it has no weights"
    assert findings.of(found, explained=made.explained(found, 3)).first == 3


def test_what_models_said_of_a_target(tmp_path):
    found = made.findings(tmp_path, targets="both")
    said = findings.of_target(0, found.fitted.targets[2]).unseen
    outputs = found.fitted.predictions.outputs[:, :, 2]
    assert said.means == pytest.approx(outputs.mean(axis=1), rel=1e-3)
    assert said.wrong[0] == pytest.approx((outputs < 0).mean(), rel=1e-3)
    assert said.wrong[1] <= said.wrong[0] <= said.wrong[2] and said.mean[1] <= said.mean[0] <= said.mean[2]
    assert said.score[0] == pytest.approx(found.evaluation.per_target[2], rel=1e-3)
    own = int(np.flatnonzero(found.run.own == 7)[0])
    counted = found.fitted.predictions.counts[:, own].sum()
    assert len(findings.of_target(0, found.fitted.targets[own]).unseen.predicted) == counted < 6
