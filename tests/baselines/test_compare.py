import json

import numpy as np
import pytest

from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.baselines import compare
from datamodels.baselines.compare import LDS, UNSURE, Comparison, Flips, flips_at, read_documents
from datamodels.baselines.context import Context
from datamodels.baselines.scoring import MethodScores
from datamodels.errors import InputError, NotReadyError
from datamodels.run import designs
from datamodels.testing import committed, linear

EVALUATE = {"subsets": 20, "models": 2}


def linear_outputs(run, models):
    """float16: outputs of the linear world's models, without noise."""
    masks = [designs.subset(run.design, run.spec.subset_index(model)) for model in models]
    trainer = linear.Linear(None, np.zeros(run.n), noise=0.05)
    return trainer.outputs_many(list(zip(masks, models, strict=True))).astype(np.float16)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    store, run = linear.make_store(tmp_path_factory.mktemp("store"), evaluate=EVALUATE, chunk=20, sub_chunk=10)
    committed.commit(store, run, outputs=linear_outputs)
    return Context(run, linear.load(), store, 2)


@pytest.fixture(scope="module")
def comparison(given):
    return Comparison(given, Retrainer(given.run, given.dataset, 4), linear.N, (5, 20))


def test_true_weights_are_ahead_of_their_opposite(comparison):
    ticks = []
    row = comparison.row(comparison.reference, lambda: ticks.append(1))
    assert len(ticks) == 2 and row.entry.name == "datamodels" and not row.difference
    # Of 6 targets nothing moves one, whose two outputs are noise, and another is always wrong.
    assert row.lds.lds > 0.7 and row.lds.targets == linear.N
    assert len(row.flips[5].targets) == linear.N - 1 and linear.N - 1 not in row.flips[5].targets
    assert row.flips[20].rate > row.flips[5].rate - 1e-9 and row.flips[20].flipped[0]
    opposite = comparison.row(MethodScores("opposite", -comparison.reference.scores, 0, 0.1))
    assert opposite.lds.lds < -0.5 and opposite.flips[20].rate == 0
    lds, flipped = opposite.difference["lds"], opposite.difference[flips_at(20)]
    assert lds.value == pytest.approx(opposite.lds.lds - row.lds.lds) and lds.interval[1] < 0
    assert flipped.value == -row.flips[20].rate
    document = opposite.document()
    assert document["figures"]["lds"]["less_datamodels"]["value"] == lds.value
    assert document["figures"][flips_at(5)]["value"] == 0 and document["targets"]["flips"] == linear.N - 1


def test_the_best_columns_go_first_and_only_those_that_help():
    run = linear.make_run()
    scores = np.zeros(linear.D)
    scores[[3, 5, 8]] = 1, 3, 2
    scores[9] = -4
    assert np.flatnonzero(~compare.without_best(run, scores, 0, 2)).tolist() == [5, 8]
    assert np.flatnonzero(~compare.without_best(run, scores, 0, 20)).tolist() == [3, 5, 8]


def test_no_class_is_emptied_and_no_pinned_column_goes():
    run = linear.make_run(design={"pinned_in": [0]})
    scores = np.where(np.arange(linear.D) % 4 == 2, 2.0, 0.0)
    scores[0] = 5
    gone = np.flatnonzero(~compare.without_best(run, scores, 0, 40))
    assert len(gone) == 9 and (gone % 4 == 2).all()


def test_a_training_example_is_left_out_of_its_own_sets():
    run = linear.make_run(targets="train")
    scores = np.linspace(1, 2, linear.D)
    gone = np.flatnonzero(~compare.without_best(run, scores, linear.D - 1, 2))
    assert gone.tolist() == [linear.D - 3, linear.D - 2, linear.D - 1]


def test_a_comparison_needs_weights_and_subsets_to_be_scored_on(tmp_path, given):
    retrainer = Retrainer(given.run, given.dataset, 2)
    store, run = linear.make_store(tmp_path, evaluate={"subsets": 0})
    with pytest.raises(NotReadyError, match=r"evaluate.subsets is 0"):
        Comparison(Context(run, linear.load(), store, 1), retrainer, 2, (5,))
    with pytest.raises(InputError, match="targets = 7: must be 2 to 6"):
        Comparison(given, retrainer, 7, (5,))
    unfitted = linear.make_run(name="bare", evaluate=EVALUATE)
    with pytest.raises(NotReadyError, match="has no weights yet"):
        Comparison(Context(unfitted, linear.load(), store, 1), retrainer, 2, (5,))


def row(method, lds, flips, ahead=None):
    figures = {LDS: {"value": lds, "interval": [lds - 0.1, lds + 0.1]}, UNSURE: None}
    figures |= {flips_at(k): {"value": share, "interval": [share - 0.05, share + 0.05]} for k, share in flips.items()}
    if ahead is not None:
        figures[LDS]["less_datamodels"] = {"value": ahead, "interval": [ahead - 0.01, ahead + 0.01]}
    return {"method": method, "models": 20, "seconds": 1.5, "figures": figures, "targets": {LDS: 5}}


ROWS = [row("datamodels", 0.6, {10: 0.2, 80: 0.4}), row("<trac_in>", 0.7, {10: 0.1, 80: 0.3}, ahead=0.1)]


def test_printed_rows_are_read_back(tmp_path):
    path = tmp_path / "compared.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    assert read_documents(path) == ROWS


@pytest.mark.parametrize("text", ["{}", "[1]", "no", json.dumps(ROWS[0] | {"figures": {}}), json.dumps(ROWS)])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(InputError, match="is not what `datamodels compare RUN --json` prints"):
        read_documents(tmp_path / "file")
    with pytest.raises(InputError, match="No such file"):
        read_documents(tmp_path / "none")


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "file").write_text("\n")
    with pytest.raises(InputError, match=r"file: is empty; `datamodels compare RUN --json > .*file` writes it"):
        read_documents(tmp_path / "file")


def test_rates_of_few_targets_differ_by_no_more_than_1():
    targets = np.arange(3)
    most = Flips(targets, np.array([True, True, False])).less(Flips(targets, np.zeros(3, dtype=bool)))
    assert most.value == pytest.approx(2 / 3) and -1 <= most.interval[0] < 0 and most.interval[1] == 1


def test_a_handful_of_subsets_puts_no_method_above_another():
    few, enough = (
        [Evaluation(lds, (lds, lds), 1.0, np.ones(2), subsets, 2, deviations=np.zeros(9)) for lds in (0.9, 0.5)]
        for subsets in (5, 50)
    )
    assert compare.difference(*few).interval == (-2, 2)
    assert compare.difference(*enough).interval == pytest.approx((0.4, 0.4))
