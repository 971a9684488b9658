import dataclasses
import json

import numpy as np
import pytest

from datamodels.errors import InputError, SpecError
from datamodels.outputs import LOSS, MARGIN, Output
from datamodels.rpc import codec, run_codec
from datamodels.run import designs, runs, specs
from datamodels.spans import Span
from datamodels.v1 import types_pb2

GROUPS = np.arange(40, dtype=np.int32) % 8
DESIGNS = [
    designs.Design("uniform", 2**64 - 1, 0.1, 50),
    designs.Design("complement", 0, 0.5, 41, pinned_out=(0,)),
    designs.Design("stratified", 3, 0.4, 40, GROUPS, pinned_in=(2, 9)),
    designs.Design("grouped", 3, 0.5, 40, GROUPS, pinned_in=(2,), pinned_out=(0, 7)),
]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: d.kind)
def test_a_design_survives_the_round_trip(design):
    again = run_codec.from_design(types_pb2.Design.FromString(run_codec.to_design(design).SerializeToString()))
    for field in ("kind", "seed", "alpha", "examples", "pinned_in", "pinned_out"):
        assert getattr(again, field) == getattr(design, field)
    assert (again.groups is None) == (design.groups is None)
    assert (designs.subsets(again, 0, 20) == designs.subsets(design, 0, 20)).all()


def make_run(labels=True, dtype="float32"):
    parsed = specs.parse(
        {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100, "seed": 9, "alpha": 0.25}
    )
    return runs.Run(
        spec=parsed,
        design=designs.Design("uniform", 9, 0.25, 30),
        own=np.array([-1, 3, 29], np.int32),
        labels=np.arange(30, dtype=np.int32) % 3 if labels else None,
        target_labels=np.array([0, 1, 2], np.int32) if labels else None,
        dtype=dtype,
        declared=LOSS if labels else None,
        label_names=("a", "b", "c") if labels else (),
    )


@pytest.mark.parametrize(("labels", "dtype"), [(True, "float32"), (False, "float16")])
def test_a_run_survives_the_round_trip(labels, dtype):
    run = make_run(labels, dtype)
    again = run_codec.from_run_record(types_pb2.RunRecord.FromString(run_codec.to_run_record(run).SerializeToString()))
    assert json.dumps(again.document()) == json.dumps(run.document())
    assert again.name == run.name


def test_spans_survive_the_round_trip_and_wrong_ones_are_refused():
    spans = (Span("a b", 0, 1), Span("", 0, 0), Span("é\U0001f600 ß", 1, 2))
    run = dataclasses.replace(make_run(), spans=spans)
    record = types_pb2.RunRecord.FromString(run_codec.to_run_record(run).SerializeToString())
    assert run_codec.from_run_record(record).spans == spans
    record.spans[0].last = 4
    with pytest.raises(InputError, match="letters 0 to 4 of an excerpt of 3"):
        run_codec.from_run_record(record)
    del record.spans[0]
    with pytest.raises(InputError, match="spans: has 2 for 3 targets"):
        run_codec.from_run_record(record)


def test_a_record_of_the_first_version_names_no_type_of_outputs():
    assert run_codec.from_run_record(changed(dtype=0)).dtype == "float16"


@pytest.mark.parametrize("output", [LOSS, MARGIN, Output("prediction", "€"), Output("a", "", False, 0.0)])
def test_an_output_survives_the_round_trip(output):
    assert codec.from_output(types_pb2.Output.FromString(codec.to_output(output).SerializeToString())) == output


def test_an_output_of_an_old_server_is_a_margin_and_a_malformed_one_is_refused():
    assert codec.from_output(types_pb2.Output()) == MARGIN
    with pytest.raises(InputError, match=r"output.threshold = 2.0: needs output.higher_is_better"):
        codec.from_output(types_pb2.Output(name="a", threshold=2.0))


def changed(**fields):
    message = run_codec.to_run_record(make_run())
    for field, value in fields.items():
        if isinstance(value, str | int):
            setattr(message, field, value)
        else:
            getattr(message, field).CopyFrom(value)
    return message


def int32(*values):
    return codec.to_tensor(np.array(values, np.int32))


SPEC = json.loads(run_codec.to_run_record(make_run()).spec_json)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"spec_json": ""}, "spec_json: is not JSON"),
        ({"spec_json": "{"}, "spec_json: is not JSON"),
        ({"spec_json": "[" * 100_000}, "spec_json: is not JSON, or is nested too deeply"),
        ({"run": "try-000000000000"}, "run = 'try-000000000000': the spec's name and hash make it 'try-"),
        ({"own_example": int32(30)}, "own_example: holds 30 to 30, must be -1 to 29"),
        ({"own_example": int32(-2, 0)}, "own_example: holds -2 to 0, must be -1 to 29"),
        ({"own_example": int32()}, "own_example: is empty"),
        ({"labels": int32(1, 2, 3)}, "labels: has shape (3), must be (30)"),
        ({"target_labels": int32(1, 2)}, "target_labels: has shape (2), must be (3)"),
        ({"design": run_codec.to_design(designs.Design("uniform", 8, 0.25, 30))}, "design.seed = 8: the spec says 9"),
        (
            {"design": run_codec.to_design(designs.Design("uniform", 9, 0.5, 30))},
            "design.alpha = 0.5: the spec says 0.25",
        ),
        ({"dtype": types_pb2.Tensor.DTYPE_INT32}, "dtype: is int32, must be float16 or float32"),
        ({"dtype": 99}, "dtype: has the unknown code 99"),
        ({"design": types_pb2.Design()}, "design.kind = 'unspecified'"),
    ],
)
def test_a_faulty_run_record_is_refused(fields, fault):
    with pytest.raises(InputError) as caught:
        run_codec.from_run_record(changed(**fields))
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(
    ("document", "fault"),
    [("[1]", "the spec is a list"), ("3", "the spec is a int"), (json.dumps(SPEC | {"m": 1}), "m = 1: must")],
)
def test_the_faults_of_a_spec_in_a_record_are_named(document, fault):
    with pytest.raises(SpecError) as caught:
        run_codec.from_run_record(changed(spec_json=document))
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize("depth", [150, 300, 900])
def test_a_deeply_nested_spec_is_refused(depth):
    options = "[" * depth + "]" * depth
    document = json.dumps(SPEC | {"dataset": {"load": "a:b", "options": {"x": 0}}}).replace('"x": 0', f'"x": {options}')
    with pytest.raises((InputError, SpecError)):
        run_codec.from_run_record(changed(spec_json=document))


def test_every_kind_of_design_of_the_proto_is_known():
    assert set(run_codec._KIND_OF) == set(types_pb2.Design.Kind.values()) - {types_pb2.Design.KIND_UNSPECIFIED}
