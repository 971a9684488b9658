"""Credentials that are replaced, end, or lack a right. A proxy refuses requests; MiniStack behind it checks none."""

import dataclasses
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from datamodels.errors import ExitCode, SettingsError, StoreUnavailableError
from datamodels.settings import StoreSettings
from datamodels.storage.keys import Numbered
from datamodels.storage.preflight import preflight
from datamodels.storage.s3 import S3Store
from tests.helpers.waiting import LIMIT, eventually
from tests.storage.conftest import client_of, empty
from tests.storage.s3.proxy import Proxy


@pytest.fixture(scope="module")
def running(ministack):
    proxy = Proxy(ministack)
    yield proxy
    proxy.close()


@pytest.fixture
def proxy(running, ministack, bucket):
    running.reset()
    empty(S3Store(StoreSettings(url=f"s3://{bucket}/p", s3_endpoint=ministack)))
    return running


@pytest.fixture
def settings(proxy, bucket):
    return StoreSettings(url=f"s3://{bucket}/p", s3_endpoint=proxy.address, timeout=LIMIT, attempts=2, patience=LIMIT)


class Keys:
    """Keys in a file, as a Secret that is mounted, and the one that the store takes. `replace` changes both."""

    def __init__(self, path, proxy):
        self.path, self.valid, self.refused, self.answer = path, "first", 0, (403, "InvalidAccessKeyId")
        self.write("first")
        proxy.rule = self.rule

    def write(self, key):
        self.path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    def rule(self, request):
        if re.search("Credential=([^/]+)/", request.headers["Authorization"])[1] == self.valid:
            return None
        self.refused += 1
        if self.valid == "second" and self.refused == 4:  # the file follows later than the store
            self.write("second")
        return self.answer

    def replace(self, answer):
        self.valid, self.refused, self.answer = "second", 0, answer


@pytest.fixture
def keys(tmp_path, proxy, monkeypatch, credentials):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    return Keys(tmp_path / "keys", proxy)


CALLS = {
    "create": lambda store: store.create("b/c", b"2"),
    "read": lambda store: store.read("a/b") == b"1",
    "exists": lambda store: store.exists("a/b"),
    "exists not": lambda store: not store.exists("a/x"),
    "list": lambda store: list(store.list("")) == ["a/b"],
}


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("create", (403, "InvalidAccessKeyId")),
        ("create", (400, "ExpiredToken")),
        ("read", (403, "AccessDenied")),
        ("exists", (403, "RequestTimeTooSkewed")),
        ("exists not", (403, "AccessDenied")),
        ("list", (403, "SignatureDoesNotMatch")),
    ],
)
def test_calls_wait_for_credentials_that_are_being_replaced(settings, keys, call, answer):
    """Also for calls of a kind that was not tried before."""
    store = S3Store(settings)
    assert store.create("a/b", b"1") and store.read("a/b") == b"1"
    keys.replace(answer)
    assert CALLS[call](store)
    assert keys.refused >= 4


def test_credentials_that_stay_refused_end_with_the_transient_code(settings, keys):
    store = S3Store(dataclasses.replace(settings, patience=0.3))
    store.create("a/b", b"1")
    store.read("a/b")
    keys.valid = "never"
    for call in (lambda: store.read("a/b"), lambda: store.create("a/c", b"2"), lambda: list(store.list(""))):
        with pytest.raises(StoreUnavailableError, match=r"403 .*read anew") as caught:
            call()
        assert caught.value.exit_code == ExitCode.TRANSIENT


def test_only_so_many_requests_wait_for_credentials(settings, keys):
    """So that a service, which has a thread for each call, can still answer others."""
    store = S3Store(settings, waiters=1)
    store.create("a/b", b"1")
    store.read("a/b")
    keys.valid = "never"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.read, "a/b")
        eventually(lambda: keys.refused > 3)  # refused, looked whether that passes, and refused again
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="other requests wait"):
                store.create("b/c", b"2")
        keys.valid = "first"
        assert first.result(LIMIT) == b"1"
    keys.replace((403, "InvalidAccessKeyId"))
    assert store.create("b/c", b"2"), "the first no longer counts"


def test_credentials_that_were_never_good_are_a_wrong_setting_at_once(settings, keys):
    keys.valid = "never"
    store = S3Store(settings)
    for call in (lambda: store.read("a/b"), lambda: store.create("a/c", b"2"), lambda: list(store.list(""))):
        with pytest.raises(SettingsError, match="403"):
            call()
    assert keys.refused <= 8


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed"])
def test_what_passes_by_itself_is_waited_for_from_the_first_call_on(settings, proxy, code):
    proxy.faults["PUT"] = [(403, code)] * 3
    assert S3Store(settings).create("a/b", b"1")
    store = S3Store(dataclasses.replace(settings, patience=0))
    proxy.faults["PUT"] = [(403, code)] * 3
    with pytest.raises(StoreUnavailableError, match=code):
        store.create("a/c", b"1")


def is_listing(request):
    return request.command == "GET" and "list-type=2" in request.path


def without(*denied):
    """A rule that refuses requests of some kinds, as a policy that lacks a right does."""

    def rule(request):
        kind = "LIST" if is_listing(request) else request.command
        return (403, "AccessDenied") if kind in denied else None

    return rule


@pytest.mark.parametrize(
    ("denied", "call", "right"),
    [
        ("PUT", lambda store: store.create("a/c", b"2"), r"s3:PutObject on {bucket}/p/\*"),
        ("DELETE", lambda store: store.delete("a/b"), r"s3:DeleteObject on {bucket}/p/\*"),
        ("LIST", lambda store: list(store.list("")), r"s3:ListBucket on the bucket {bucket}"),
    ],
)
def test_an_error_names_the_right_that_is_missing_without_waiting(settings, proxy, bucket, denied, call, right):
    store = S3Store(settings)
    store.create("a/b", b"1")
    store.read("a/b")
    fresh = S3Store(settings)
    proxy.rule = without(denied)
    fresh.read("a/b")
    started = time.monotonic()
    with pytest.raises(SettingsError, match=right.format(bucket=bucket) + ", see docs/guides/stores.md"):
        call(fresh)
    assert time.monotonic() - started < LIMIT


@pytest.fixture
def hides_missing(proxy, ministack, bucket):
    """A rule as of AWS: without the right to list, objects that do not exist are forbidden."""

    def rule(request):
        path = request.path.partition("?")[0].removeprefix(f"/{bucket}/")
        if request.command in ("GET", "HEAD") and not is_listing(request):
            found = client_of(ministack).list_objects_v2(Bucket=bucket, Prefix=path).get("Contents", ())
            return None if path in [item["Key"] for item in found] else (403, "AccessDenied")
        return None

    return rule


def test_an_object_that_does_not_exist_is_not_forbidden_if_a_listing_says_so(settings, proxy, hides_missing):
    store = S3Store(settings)
    proxy.rule = hides_missing
    assert not store.exists("a/b") and store.newest(Numbered("n/", 6)) == -1
    preflight(store, writers=4)


def test_without_the_right_to_list_the_error_says_that_it_is_missing(settings, proxy, hides_missing, bucket):
    store = S3Store(settings)
    proxy.rule = lambda request: without("LIST")(request) or hides_missing(request)
    with pytest.raises(SettingsError, match=f"s3:GetObject on {bucket}/p/.* and s3:ListBucket on the bucket {bucket}"):
        store.exists("a/b")
    assert store.create("a/b", b"1") and store.exists("a/b")
    for call in (store.exists, store.read):
        with pytest.raises(SettingsError, match=f"if credentials lack s3:ListBucket on the bucket {bucket}"):
            call("a/x")
