"""The protos: their style, and that no change breaks clients of the last release. Spoilt copies are found out."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.helpers.calls import FILES, METHODS
from tests.helpers.waiting import LIMIT

PROTO = Path(__file__).parents[2] / "proto"
RELEASED = PROTO / "released.binpb"
LISTS = [method for method in METHODS if method.name.startswith("List")]


def every_field():
    def of(message):
        yield from message.fields
        for nested in message.nested_types:
            yield from of(nested)

    return [field for file in FILES for message in file.message_types_by_name.values() for field in of(message)]


@pytest.fixture
def buf(tmp_path):
    """buf(*arguments) gives what buf has to say, nothing where it is content. No network: its proxies lead nowhere."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    environ = os.environ | nowhere | {"BUF_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments):
        command = [Path(sysconfig.get_path("scripts")) / "buf", *map(str, arguments)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False)
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) == (not printed), printed
        return printed

    return run


@pytest.fixture
def spoilt(tmp_path):
    """spoilt(file, pattern, text) is a copy of the protos in which the first match of a pattern reads otherwise."""

    def make(file, pattern, text):
        copy = tmp_path / "proto"
        shutil.copytree(PROTO, copy)
        path = copy / "datamodels" / "v1" / file
        whole, count = re.subn(pattern, text, path.read_text(), count=1)
        assert count == 1
        path.write_text(whole)
        return copy

    return make


def test_the_protos_are_in_style(buf):
    assert buf("lint", PROTO) == ""


@pytest.mark.parametrize(
    ("file", "pattern", "text", "fault"),
    [
        ("query.proto", r"int32 page_size", "int32 pageSize", "lower_snake_case"),
        ("types.proto", r"KIND_GROUPED", "GROUPED", "prefixed"),
        ("fitter.proto", r"(  //[^\n]*\n)+(?=  rpc Fit\()", "", "non-empty comment"),
        ("query.proto", r"\(GetRunRequest\)", "(ListRunsRequest)", "GetRunRequest"),
    ],
)
def test_a_fault_of_style_is_found(buf, spoilt, file, pattern, text, fault):
    assert fault in buf("lint", spoilt(file, pattern, text))


def test_no_change_breaks_clients_of_the_last_release(buf):
    assert buf("breaking", PROTO, "--against", RELEASED) == ""


@pytest.mark.parametrize(
    ("file", "pattern", "text", "fault"),
    [
        ("query.proto", r"  string page_token = 2;\n", "", 'field "2" with name "page_token" .* was deleted'),
        ("query.proto", r"page_token = 2;", "page_token = 7;", 'field "2" with name "page_token" .* was deleted'),
        ("query.proto", r"string page_token = 2;", "string page = 2;", "changed name"),
        ("query.proto", r"string page_token = 2;", "bytes page_token = 2;", "changed type"),
        ("query.proto", r"  rpc TopInfluences[^\n]*\n", "", "RPC .TopInfluences. .* was deleted"),
        ("query.proto", r"returns \(stream GetWeights", "returns (GetWeights", "streaming"),
        ("types.proto", r"    DTYPE_INT64 = 3;\n", "", "enum value .3. .* was deleted"),
        ("fitter.proto", r"package datamodels.v1", "package datamodels.v2", "package"),
    ],
)
def test_a_change_that_breaks_clients_is_found(buf, spoilt, file, pattern, text, fault):
    assert re.search(fault, buf("breaking", spoilt(file, pattern, text), "--against", RELEASED))


def test_what_is_added_breaks_nobody(buf, spoilt):
    copy = spoilt("query.proto", r"string page_token = 2;", "string page_token = 2; string order_by = 3;")
    assert buf("breaking", copy, "--against", RELEASED) == ""


def test_vectors_travel_as_tensors():
    """Of all numbers that repeat, these alone are no tensors: lengths of axes, and a few indices."""
    numbers = {
        field.full_name.removeprefix("datamodels.v1.")
        for field in every_field()
        if field.is_repeated and field.cpp_type not in (FieldDescriptor.CPPTYPE_MESSAGE, FieldDescriptor.CPPTYPE_STRING)
    }
    assert numbers == {"Tensor.shape", "PutOutputsRequest.Rows.retried"}


@pytest.mark.parametrize("method", LISTS, ids=lambda method: method.name)
def test_lists_are_paginated(method):
    """As AIP-158 has it."""
    request, response = method.input_type.fields_by_name, method.output_type.fields_by_name
    assert request["page_size"].cpp_type == FieldDescriptor.CPPTYPE_INT32
    assert request["page_token"].cpp_type == FieldDescriptor.CPPTYPE_STRING
    assert response["next_page_token"].cpp_type == FieldDescriptor.CPPTYPE_STRING
    assert not any(request[name].is_repeated for name in ("page_size", "page_token"))
    assert [field.cpp_type for field in response.values() if field.is_repeated] == [FieldDescriptor.CPPTYPE_MESSAGE]


def test_every_call_with_pages_is_called_list():
    paged = {method.name for method in METHODS if "page_token" in method.input_type.fields_by_name}
    assert paged == {method.name for method in LISTS} == {"ListRuns", "ListTargets", "ListObjects"}
