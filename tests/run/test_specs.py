import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import ExitCode, SpecError
from datamodels.run import specs

GOLDEN = "try-b9002de32478"


def document(**fields):
    return {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100} | fields


def faults(**fields):
    with pytest.raises(SpecError) as raised:
        specs.parse(document(**fields))
    assert raised.value.exit_code == ExitCode.CONFIG
    return raised.value.faults


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"alpha": 1.5}, "alpha = 1.5: must be less than 1"),
        ({"alpha": math.nan}, "alpha = nan: must be a finite number"),
        ({"m": 3}, "m = 3: must be greater than or equal to 10"),
        ({"m": "1e4"}, "m = '1e4': must be a valid integer"),
        ({"m": True}, "m = True: must be a valid integer"),
        ({"seed": -1}, "seed = -1: must be greater than or equal to 0"),
        ({"nane": 1}, "nane: unknown field; fields here are name, "),
        ({"fit": {"solver": "magic"}}, "fit.solver = 'magic': must be 'saga'"),
        (
            {"design": {"kind": "coin"}},
            "design.kind = 'coin': must be 'uniform', 'complement', 'stratified', 'grouped', 'hadamard' or 'imported'",
        ),
        ({"targets": "all"}, "targets = 'all': must be 'test', 'train' or 'both'"),
        ({"sub_chunk": 300}, "sub_chunk = 300: must divide chunk = 1000"),
        (
            {"chunk": 100, "m": 20_000_000},
            "chunk = 100: makes 200,002 chunks of 20,000,200 models, at most 100,000 allowed",
        ),
        ({"evaluate": {"subsets": 2}}, "evaluate.subsets = 2: must be 0, for no evaluation, or at least 3"),
        (
            {"m": 10, "fit": {"holdout": 0.1}},
            "fit.holdout = 0.1: holds out less than 2 of m = 10 subsets; raise it or m",
        ),
        ({"until": {"lds": 1.0}}, "until.lds = 1.0: must be less than 1"),
        ({"until": {"lds": 90}}, "until.lds = 90: must be less than 1"),
        ({"until": {"slope": 0}}, "until.slope = 0: must be greater than 0"),
        ({"until": {"quality": 0.9}}, "until.quality: unknown field; fields here are lds, slope"),
        ({"until": 0.9}, "until = 0.9: must be a valid"),
        ({"output": {"threshold": "high"}}, "output.threshold = 'high'"),
        ({"output": {"name": ""}}, "output.name = ''"),
        ({"output": {"higher": True}}, "output.higher: unknown field; fields here are "),
        ({"until": {}}, "until: must have one field, lds or slope"),
        ({"until": {"lds": 0.9, "slope": 0.1}}, "until: must have one field, lds or slope"),
        (
            {"until": {"lds": 0.9}, "evaluate": {"subsets": 0}},
            "until: needs evaluate.subsets, to measure LDS on; they are 0",
        ),
        ({"trainer": {"options": {}}}, "trainer.class: is missing"),
        ({"m": 1e4}, "m = 10000.0: must be a whole number; write 10000"),
        ({"dataset": {"load": "a:b", "options": {"x": math.inf}}}, "dataset.options.x: inf is no finite number"),
        (
            {"trainer": {"class": "a:B", "options": {"weights": {0: 5.0}}}},
            "trainer.options.weights: key 0 is no text; write '0', and convert it where you use it",
        ),
        ({"name": "No Good"}, "name = 'No Good'"),
    ],
)
def test_a_fault_is_one_line_with_field_value_and_what_is_allowed(fields, fault):
    found = faults(**fields)
    assert len(found) == 1 and "\n" not in found[0]
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    "fit, fault",
    [
        ({"estimator": "prior", "solver": "saga"}, "fit.solver = 'saga': the estimator 'prior' does not use it; "),
        ({"estimator": "lasso", "gradients": 5}, "fit.gradients = 5: the estimator 'lasso' does not use it; leave it "),
        ({"estimator": "ridge", "lambda_ratio": 0.1}, "fit.lambda_ratio = 0.1: the estimator 'ridge' does not use it"),
        ({"estimator": "difference", "patience": 5}, "fit.patience = 5: the estimator 'difference' does not use it"),
    ],
)
def test_settings_that_the_estimator_does_not_use_are_refused_when_they_are_given(tmp_path, fit, fault):
    """Earlier versions ignored them, so stored runs may have them."""
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(document(fit=fit)))
    for ask in (lambda: specs.load(path), lambda: specs.parse_fit(fit)):
        with pytest.raises(SpecError) as raised:
            ask()
        assert raised.value.faults[0].startswith(fault) and len(raised.value.faults) == 1
    stored = specs.parse(document(fit=fit)).fit
    (name,) = fit.keys() - {"estimator"}
    assert getattr(stored, name) == fit[name]
    changed = specs.parse_fit({"tolerance": 0.01}, stored)
    assert (changed.tolerance, changed.unused()) == (0.01, {}), "the fields of a stored run do not get in the way"


def test_a_file_of_all_fields_with_their_defaults_is_no_fault(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(specs.parse(document(fit={"estimator": "difference"})).document()))
    assert specs.load(path).fit.estimator == "difference"


def test_a_field_of_a_fit_is_changed_in_either_spelling():
    base = specs.parse_fit({"solver": "stream", "batch": 64})
    assert specs.parse_fit({"batch": 128}, base) == specs.parse_fit({"batch_size": 128}, base)
    assert specs.parse_fit({"batch": 128}, base).solver == "stream"
    with pytest.raises(SpecError, match="fit: batch and batch_size are two spellings of one option"):
        specs.parse_fit({"batch": 128, "batch_size": 128})


@pytest.mark.parametrize("depth", [300, 3000])
def test_options_nested_without_end_are_refused(depth):
    options = {}
    for _ in range(depth):
        options = {"a": options}
    (fault,) = faults(dataset={"load": "a:b", "options": options})
    assert fault == "dataset.options.a: is nested too deeply; 100 levels are plenty"


def test_options_are_what_the_store_gives_back():
    """A check, a plan and a run in this process give a trainer what a trainer reads from the stored run."""
    given = {"sizes": (1, 2), "rate": np.float64(0.5), "deep": [{"a": (None, True)}]}
    parsed = specs.parse(document(trainer={"class": "a:B", "options": given}))
    stored = specs.parse(json.loads(json.dumps(parsed.request())))
    assert (
        parsed.trainer.options
        == stored.trainer.options
        == {"sizes": [1, 2], "rate": 0.5, "deep": [{"a": [None, True]}]}
    )
    assert type(parsed.trainer.options["rate"]) is float


def test_all_faults_are_told_at_once():
    assert len(faults(alpha=2.0, m=1, nane=3)) == 3


@pytest.mark.parametrize("other", [None, [], "text", 3])
def test_a_spec_that_is_no_mapping_is_refused(other):
    with pytest.raises(SpecError, match="must be a mapping"):
        specs.parse(other)


@pytest.mark.parametrize(
    "text, fault",
    [
        ("m: [1", "is not YAML"),
        ("seed: 0400", r"spec\.yaml: line 1: 0400 is octal in YAML 1\.1"),
        ("seed: " + "9" * 5000, "is not YAML"),
        ("seed: " + "[" * 5000, "is not YAML"),
        ("m: 1\nm: 2", "'m' is given twice"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("- 1", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_spec_is_refused_in_one_line(tmp_path, text, fault):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=fault) as raised:
        specs.load(path)
    assert "\n" not in str(raised.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"none\.yaml: No such file"):
        specs.load(tmp_path / "none.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"binary\.yaml"):
        specs.load(path)


def test_the_hash_names_what_is_computed():
    base = specs.parse(document())
    assert specs.parse(base.document()).hash == base.hash
    assert specs.parse(document(alpha=0.5)).hash == base.hash  # a default, spelt out
    assert specs.parse(document(seed=1)).hash != base.hash
    assert base.run == f"try-{base.hash[:12]}"


def test_how_models_are_fitted_is_no_part_of_the_name():
    """So no model is trained again for another fit."""
    ridge = specs.parse(document(fit={"estimator": "ridge"}))
    assert ridge.run == specs.parse(document()).run and ridge.document()["fit"]["estimator"] == "ridge"
    assert specs.parse(document()).with_fit({"estimator": "ridge"}) == ridge
    with pytest.raises(SpecError, match=r"fit\.lambdas"):
        ridge.with_fit({"lambdas": 0})


def test_when_to_stop_is_no_part_of_what_is_computed():
    """A run that was stopped continues under another rule, or none, with the models that it has."""
    until = specs.parse(document(until={"slope": 0.01}))
    assert until.until.slope == 0.01
    assert until.run == specs.parse(document()).run and "until" not in until.document()
    assert specs.parse(until.request()) == until


def test_what_outputs_mean_is_no_part_of_what_is_computed():
    price = specs.parse(document(output={"name": "price error", "threshold": None}))
    assert price.run == specs.parse(document()).run and "output" not in price.document()
    assert specs.parse(price.request()) == price.with_fit({}) == price
    assert price.output.given() == {"name": "price error", "threshold": None}


def test_the_hash_is_the_same_for_ever():
    """A run's name must not change by accident. Whoever changes a default renames runs, and should know it."""
    assert specs.parse(document()).run == GOLDEN
    assert specs.parse(document()).earlier().run == "try-f25f8412f612"  # of versions before 0.3


@given(
    m=st.integers(10, 5000),
    subsets=st.sampled_from([0, 3, 10]),
    models=st.integers(2, 7),
    sub_chunk=st.integers(1, 50),
    times=st.integers(1, 9),
)
def test_chunks_and_sub_chunks_tile_the_models(m, subsets, models, sub_chunk, times):
    made = specs.parse(
        document(
            m=m,
            evaluate={"subsets": subsets, "models": models},
            sub_chunk=sub_chunk,
            chunk=sub_chunk * times,
            fit={"holdout": 0.5},
        )
    )
    pieces = [piece for chunk in range(made.chunks) for piece in made.sub_chunks(made.chunk_range(chunk))]
    assert [model for piece in pieces for model in piece] == list(range(made.models))
    assert all(made.sub_chunk_of(piece.start) == piece for piece in pieces)
    starts = {piece.start for piece in pieces}
    assert all(made.sub_chunk_of(first) is None for first in range(-1, made.models + 1) if first not in starts)

    indices = [made.subset_index(model) for model in range(made.models)]
    assert indices == sorted(indices)
    assert indices[:m] == list(range(m))
    assert indices[m:] == [m + s for s in range(subsets) for _ in range(models)]


def test_a_chunk_that_is_not_there_is_refused():
    made = specs.parse(document())
    for chunk in (-1, made.chunks):
        with pytest.raises(SpecError, match="must be 0 to"):
            made.chunk_range(chunk)
