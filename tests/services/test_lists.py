"""Every list call returns pages as AIP-158 defines them."""

import base64
import dataclasses
import json

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.errors import InputError, PageTokenError
from datamodels.query import pages
from datamodels.query.weights import WeightStore
from datamodels.rpc.client import connect
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.run import runs, specs
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted
from datamodels.train import Dataset
from tests.helpers.calls import METHODS, call, request_of

LISTS = [method for method in METHODS if method.name.startswith("List")]
MANY = pages.MAX_SIZE + 5
D = 10


def make_run(name, targets=1):
    data = Dataset(np.zeros((D, 1)), np.zeros(D), np.zeros((targets, 1)), np.zeros(targets))
    document = {"name": name, "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    return runs.resolve(specs.parse(document), data)


RUN = make_run("many", targets=MANY)
OBJECTS = f"aggregate/{RUN.name}/parts/"


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    """A channel to a query service with more runs, and more targets of one run, than fit one page."""
    store = LocalStore(tmp_path_factory.mktemp("store"))
    for run in (RUN, *(make_run(f"run-{number}") for number in range(MANY - 1))):
        runs.create(store, run)
    fitted.commit_fit(store, RUN, np.ones((MANY, D), np.float32))
    for number in range(MANY):
        store.create(f"{OBJECTS}{number:010d}-{number + 1:010d}.parquet", b"")
    with (
        Server(ServeSettings(), [service(WeightStore(store))]) as server,
        connect(server.address, ClientSettings(attempts=1)) as channel,
    ):
        yield channel


def about_the_run(method):
    fields = {"run": RUN.name, "prefix": OBJECTS}
    return {name: value for name, value in fields.items() if name in method.input_type.fields_by_name}


@pytest.fixture(params=LISTS, ids=lambda method: method.name)
def page(request, channel):
    """page(**fields) returns the entries of a page and the token of the next page."""
    method = request.param
    about = about_the_run(method)
    (entries,) = (field.name for field in method.output_type.fields if field.is_repeated)

    def ask(**fields):
        (answer,) = call(channel, method, request_of(method, **about | fields))
        return [entry.SerializeToString() for entry in getattr(answer, entries)], answer.next_page_token

    return ask


def test_pages_of_any_sizes_have_every_entry_once(page):
    found, token = page(page_size=7)
    assert len(found) == 7
    for size in (1, 300, 0, 10_000):
        more, token = page(page_size=size, page_token=token)
        assert bool(token) == (size != 10_000)
        found += more
    assert len(found) == len(set(found)) == MANY
    first, token = page(page_size=MANY)
    rest, end = page(page_token=token)
    assert first + rest == found and not end


def test_a_size_of_0_is_the_default_and_too_large_a_one_is_cut(page):
    assert [len(page(page_size=size)[0]) for size in (0, 2**31 - 1)] == [pages.DEFAULT_SIZE, pages.MAX_SIZE]


def test_a_last_page_that_is_exactly_full_has_no_token(page):
    _, token = page(page_size=MANY - 5)
    assert [len(page(page_size=size, page_token=token)[0]) for size in (5, 6)] == [5, 5]
    assert not page(page_size=5, page_token=token)[1]


@pytest.mark.parametrize("size", [-1, -(2**31)])
def test_a_negative_size_is_refused(page, size):
    with pytest.raises(InputError, match=f"page_size = {size}: must be at least 0"):
        page(page_size=size)


def test_a_token_of_another_request_is_refused(page, channel):
    """A token of another list or another run."""
    others = [pages.token({"of": "another"}, 0), pages.token({"run": make_run("run-0").name}, 0, 0)]
    for method in LISTS:
        (page_of_one,) = call(channel, method, request_of(method, **about_the_run(method), page_size=1))
        others.append(page_of_one.next_page_token)
    refused = 0
    for token in others:
        try:
            page(page_token=token)
        except PageTokenError:
            refused += 1
    assert refused == len(others) - 1  # all but its own


@pytest.mark.parametrize("spoil", [lambda t: t[:-9], lambda t: "x", lambda t: t[::-1], lambda t: "é" * 1000])
def test_a_damaged_token_is_refused(page, spoil):
    with pytest.raises(PageTokenError):
        page(page_token=spoil(page(page_size=1)[1]))


@pytest.mark.parametrize("number", [7, 2**63 - 1, 2**63, 10**400, -1])
def test_a_forged_token_is_refused(page, number):
    """Its fit does not exist, or its position has the wrong type."""
    body = json.loads(base64.urlsafe_b64decode(page(page_size=1)[1]))
    body["position"][0] = number
    with pytest.raises(PageTokenError):
        page(page_token=base64.urlsafe_b64encode(json.dumps(body).encode()).decode())


def test_a_list_of_large_runs_has_more_pages(tmp_path):
    """A list of runs with long names of classes, 6 MB of them; an answer has at most 4 MiB."""
    store, names = LocalStore(tmp_path), tuple(f"{'class' * 1000} {i}" for i in range(50))
    many = [dataclasses.replace(make_run(f"run-{number}"), label_names=names) for number in range(24)]
    for run in many:
        runs.create(store, run)
    with (
        Server(ServeSettings(), [service(WeightStore(store))]) as server,
        QueryClient(server.address, ClientSettings(attempts=1)) as client,
    ):
        assert [run.run for run in client.runs()] == sorted(run.name for run in many)
