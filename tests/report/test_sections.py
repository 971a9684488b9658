import dataclasses
import html
import re

import numpy as np
import pytest

from datamodels.analyze.patterns import review
from datamodels.analyze.quality import interval, verdict
from datamodels.analyze.what_if import support
from datamodels.report import explorer, sections
from tests.report import made


def test_fragility_counts_the_targets_with_a_support(tmp_path):
    found = made.findings(tmp_path, targets="both")
    text = sections.fragility(found.run, found.fitted.fragility)
    statuses = [support.support(found.run, found.fitted.solution, j) for j in range(found.run.n)]
    right = [one for one in statuses if one.status != support.WRONG]
    sizes = [len(one.columns) for one in right if one.status == support.FOUND]
    low, high = interval.share(len(sizes), len(right))
    assert f"Of {len(right)} targets" in text and f"{len(sizes) / len(right):.0%} have a support" in text
    assert f"interval {low:.0%} to {high:.0%}" in text and f"median support has {np.median(sizes):,.0f} example" in text
    assert "most helpful examples removed" in text and "1 examples" not in text


@pytest.mark.parametrize("kind, unit", [("uniform", "example"), ("grouped", "group")])
def test_no_supports_at_all(tmp_path, kind, unit):
    found = made.findings(tmp_path, design={"kind": kind})
    found.fitted.solution.weights[:] = -1
    none = review.fragility(found.run, found.fitted.solution, range(found.run.n))
    assert none.fragile.count == 0 and none.share.tolist() == [0]
    text = sections.fragility(found.run, none)
    assert re.search(rf"None of the others has a support of up to \d+ {unit}s?: ", text) and "column" not in text
    assert explorer.data(found, {})["unit"] == unit


def test_quality_begins_with_the_verdict(tmp_path):
    found = made.findings(tmp_path)
    judged = verdict.of_evaluation(found.evaluation, found.fitted.record.rows)
    text = html.unescape(sections.quality(found))
    assert text.startswith(f"<p><strong>{judged.word.capitalize()}</strong>: {judged.text}</p>")


def test_outputs_that_never_vary_are_not_called_random(tmp_path):
    found = made.findings(tmp_path)
    assert "Training is random" in sections.quality(found)
    same = dataclasses.replace(found.evaluation, constant=found.evaluation.targets)
    text = sections.quality(dataclasses.replace(found, fitted=dataclasses.replace(found.fitted, evaluation=same)))
    assert "Training is random" not in text and "are the same for each model of the unseen subsets" in text


def test_quality_says_why_it_is_not_there(tmp_path):
    assert "fewer than 3 of the unseen subsets" in sections.quality(made.findings(tmp_path, stop=100))


def test_failed_models_and_unusual_fits_are_told(tmp_path):
    found = made.findings(tmp_path)
    found = dataclasses.replace(found, fitted=dataclasses.replace(found.fitted, unusual=1))
    assert re.search(r"<b>1</b><span>targets whose fit did not end as ok", sections.cards(found))
    assert "0 models failed" in sections.lead(found)
