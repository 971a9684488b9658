"""Stores that speak S3 as AWS does not."""

import pytest

from datamodels.errors import StoreError, StoreUnavailableError
from datamodels.settings import StoreSettings
from datamodels.storage import dialects
from datamodels.storage.preflight import preflight
from datamodels.storage.s3 import S3Store
from tests.helpers.waiting import LIMIT
from tests.storage.s3.proxy import FOREIGN, LOSE_ANSWER, Proxy

KEYS = [f"p/{i:02d}" for i in range(10)]


@pytest.mark.parametrize("case", [str.title, str.upper])
def test_metadata_keys_in_another_case_are_recognised(ministack, bucket, case):
    """A writer finds its own object, and the preflight does not accuse the store, if first answers are lost."""
    proxy = Proxy(ministack)
    proxy.rewrite = lambda headers: [(case(n) if n.lower().startswith("x-amz-meta-") else n, v) for n, v in headers]
    store = S3Store(StoreSettings(url=f"s3://{bucket}/{case.__name__}", s3_endpoint=proxy.address, timeout=LIMIT))
    try:
        proxy.faults["PUT"] = [LOSE_ANSWER]
        assert store.create("a/b", b"mine") is True
        assert store.create("a/b", b"mine") is False
        proxy.faults["PUT"] = [LOSE_ANSWER] * 4
        preflight(store, writers=4)
    finally:
        proxy.close()


class Store:
    """Answers listings in pages of 3. Its methods are how different stores do it."""

    def __init__(self, keys):
        self.keys, self.asked = keys, 0

    def after(self, last):
        page = [key for key in self.keys if key > last][:3]
        self.asked += 1
        assert self.asked < 30
        return {"Contents": [{"Key": key} for key in page], "IsTruncated": page[-1:] != self.keys[-1:]}

    def as_aws(self, more):
        answer = self.after(more.get("ContinuationToken", more.get("StartAfter", "")))
        token = answer["Contents"][-1]["Key"] if answer["IsTruncated"] else None
        return answer | ({"NextContinuationToken": token} if token else {})

    def without_tokens(self, more):
        return self.after(more.get("StartAfter", ""))

    def with_the_last_page_truncated(self, more):
        answer = self.after(more.get("ContinuationToken", ""))
        page = answer["Contents"]
        return answer | {"IsTruncated": bool(page), "NextContinuationToken": page[-1]["Key"] if page else ""}

    def without_is_truncated(self, more):
        answer = self.as_aws(more)
        del answer["IsTruncated"]
        return answer

    def with_a_token_that_it_ignores(self, more):
        answer = self.after(more.get("StartAfter", ""))
        return answer | {"NextContinuationToken": "always the same"}

    def with_empty_pages_between(self, more):
        if more.get("ContinuationToken", "").startswith("skip "):
            return self.as_aws({"ContinuationToken": more["ContinuationToken"][5:]})
        last = more.get("ContinuationToken", "")
        return {"IsTruncated": True, "NextContinuationToken": f"skip {last}"}

    def in_no_order(self, more):
        answer = self.as_aws(more)
        return answer | {"Contents": answer["Contents"][::-1]}


@pytest.mark.parametrize("way", [name for name in vars(Store) if not name.startswith("_") and name != "after"])
def test_listings_are_complete_however_they_are_divided(way):
    ask = getattr(Store(KEYS), way)
    assert list(dialects.pages(ask, "p/", "where")) == KEYS


def test_placeholders_of_folders_and_foreign_keys_are_left_out():
    ask = Store(["o/1", "p/", "p/1", "p/2/", "p/2/3", "q"]).as_aws
    assert list(dialects.pages(ask, "p/", "where")) == ["p/1", "p/2/3"]
    assert list(dialects.pages(Store([]).without_tokens, "p/", "where")) == []


def test_a_store_that_repeats_a_page_for_ever_is_named():
    stuck = {"Contents": [{"Key": "p/1"}], "IsTruncated": True, "NextContinuationToken": "same"}
    for answer in (stuck, {"IsTruncated": True}, stuck | {"NextContinuationToken": ""}):
        with pytest.raises(StoreError, match="s3://b/p: the store lists the same page for ever"):
            list(dialects.pages(lambda more, answer=answer: answer, "p/", "s3://b/p"))


def test_a_404_of_something_else_than_the_store_is_no_answer(ministack, bucket):
    """A proxy whose store is away may answer so: it must not pass for a store without the object."""
    proxy = Proxy(ministack)
    store = S3Store(StoreSettings(url=f"s3://{bucket}/foreign", s3_endpoint=proxy.address, timeout=LIMIT, attempts=3))
    try:
        store.create("a/b", b"")
        assert not store.exists("a/c"), "the store's own 404 is its answer"
        for method, ask in (("GET", lambda: list(store.list("a/"))), ("HEAD", lambda: store.exists("a/b"))):
            proxy.faults[method] = [FOREIGN] * 2
            before = len(set(proxy.connections))
            assert ask()
            assert len(set(proxy.connections)) > before, "a new connection, which may lead to the store again"
            proxy.faults[method] = [FOREIGN] * 3
            with pytest.raises(StoreUnavailableError, match=r"a 404 that is not the store's, but of BaseHTTP"):
                ask()
    finally:
        proxy.close()
