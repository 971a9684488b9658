"""Faults that only S3 has. They are real: a proxy between the store and MiniStack loses or replaces answers."""

import dataclasses
import hashlib
import inspect
import pathlib
import re
import threading
import time

import numpy as np
import pytest
from botocore import exceptions

from datamodels.aggregate import manifest, part
from datamodels.aggregate.committer import Committer
from datamodels.errors import (
    CorruptObjectError,
    DatamodelsError,
    ObjectNotFoundError,
    SettingsError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnsafeError,
)
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset
from datamodels.settings import StoreSettings
from datamodels.storage.preflight import preflight
from datamodels.storage.s3 import S3Store, translate
from tests.helpers.waiting import LIMIT
from tests.storage.conftest import client_of, empty
from tests.storage.s3.proxy import CUT_ANSWER, FLIP_BIT, FORWARD, LOSE_ANSWER, Proxy


@pytest.fixture(scope="module")
def shared(ministack, bucket):
    """(Proxy, the store behind it, the store through it)"""
    proxy = Proxy(ministack)
    direct = StoreSettings(url=f"s3://{bucket}/p", s3_endpoint=ministack)
    through = dataclasses.replace(direct, s3_endpoint=proxy.address, timeout=LIMIT, attempts=3, patience=0)
    yield proxy, S3Store(direct), S3Store(through)
    proxy.close()


@pytest.fixture
def proxy(shared):
    proxy, direct, _ = shared
    empty(direct)
    proxy.reset()
    return proxy


@pytest.fixture
def direct(shared, proxy):
    return shared[1]


@pytest.fixture
def store(shared, proxy):
    return shared[2]


def test_a_lost_acknowledgement_is_found_by_its_nonce(store, direct, proxy):
    proxy.faults["PUT"] = [LOSE_ANSWER]
    assert store.create("a/b", b"mine") is True
    assert proxy.seen == ["PUT", "PUT", "HEAD"]
    assert direct.read("a/b") == b"mine"
    assert direct.create("a/b", b"theirs") is False
    assert store.create("a/b", b"mine") is False  # the same bytes, but another write


def test_commits_survive_the_loss_of_every_first_acknowledgement(store, direct, proxy):
    """Runs the whole commit protocol over a network that loses the first answer to each write."""
    document = {"name": "lossy", "dataset": {"load": "no:load"}, "trainer": {"class": "no:Trainer"}, "m": 20}
    document |= {"chunk": 10, "sub_chunk": 10, "evaluate": {"subsets": 0}}
    data = Dataset(np.zeros((4, 1)), np.arange(4), np.zeros((2, 1)), np.arange(2))
    run = runs.resolve(specs.parse(document), data)
    committer = Committer(store)
    proxy.faults["PUT"] = [LOSE_ANSWER, FORWARD] * 20
    assert committer.create(run) is True
    for first in (0, 10):
        models = range(first, first + 10)
        assert committer.put(part.validate(run, models, np.array(models), np.full((10, 2), first, np.float32))) is True
        assert committer.publish(run.name) == first // 10
    assert proxy.seen.count("PUT") == 2 * 5
    snapshot = manifest.read_newest(direct, run.name)
    assert snapshot.ranges == [range(0, 20)]
    assert [o.outputs[0, 0] for o in snapshot.outputs(direct)] == [0, 10]


def test_losing_every_acknowledgement_leaves_a_whole_object(store, direct, proxy):
    proxy.faults["PUT"] = [LOSE_ANSWER] * 3
    with pytest.raises(StoreUnavailableError):
        store.create("a/b", b"mine")
    assert direct.read("a/b") == b"mine"
    assert store.create("a/b", b"mine") is False


def test_another_writer_between_two_tries_wins(store, direct, proxy):
    proxy.faults["PUT"] = [(503, "SlowDown")]
    writer = threading.Thread(target=direct.create, args=("a/b", b"theirs"))
    writer.start()
    writer.join()
    assert store.create("a/b", b"mine") is False
    assert store.read("a/b") == b"theirs"


def test_an_object_deleted_while_it_is_written_is_reported(store, proxy, direct):
    direct.create("a/b", b"theirs")
    proxy.faults["HEAD"] = [(404, "NoSuchKey")]
    with pytest.raises(StoreUnavailableError, match="deleted while it was written"):
        store.create("a/b", b"mine")


@pytest.mark.parametrize(
    "fault", [(409, "ConditionalRequestConflict"), (503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")]
)
def test_transient_errors_are_retried(store, proxy, fault):
    proxy.faults["PUT"] = [fault, fault]
    assert store.create("a/b", b"mine") is True
    assert proxy.seen == ["PUT"] * 3
    proxy.faults["GET"] = [fault, CUT_ANSWER]
    assert store.read("a/b") == b"mine"


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_an_answer_that_was_altered_on_the_way_is_read_again_on_a_new_connection(proxy, direct, bucket, checksums):
    """With boto3's checksums, it finds the damage; without, we do."""
    settings = StoreSettings(url=f"s3://{bucket}/p", s3_endpoint=proxy.address, s3_checksums=checksums)
    store, data = S3Store(settings), b"data"
    sha256 = hashlib.sha256(data).hexdigest()
    direct.create("a/b", data)
    proxy.faults["GET"] = [FLIP_BIT]
    assert store.get("a/b", sha256=sha256) == data
    assert proxy.seen == ["GET", "GET"] and len(set(proxy.connections)) == 2
    proxy.faults["GET"] = [FLIP_BIT, FLIP_BIT]
    with pytest.raises(CorruptObjectError, match="a/b"):
        store.get("a/b", sha256=sha256)


@pytest.mark.parametrize(
    ("status", "code", "error", "tries"),
    [
        (503, "SlowDown", StoreUnavailableError, 3),
        (400, "BadDigest", StoreUnavailableError, 3),
        (507, "InsufficientStorage", StoreFullError, 1),
        (507, "", StoreFullError, 1),
        (403, "QuotaExceeded", StoreFullError, 1),
        (403, "AccessDenied", SettingsError, 2),
        (403, "SignatureDoesNotMatch", SettingsError, 2),
        (400, "AuthorizationHeaderMalformed", SettingsError, 1),
        (404, "NoSuchBucket", SettingsError, 1),
        (501, "NotImplemented", StoreUnsafeError, 1),
        (405, "MethodNotAllowed", StoreError, 1),
    ],
)
def test_errors_repeat_what_the_store_answered(store, proxy, direct, status, code, error, tries):
    proxy.faults["PUT"] = [(status, code)] * 3
    with pytest.raises(DatamodelsError) as caught:
        S3Store(dataclasses.replace(store._settings, patience=LIMIT)).create("a/b", b"mine")
    assert type(caught.value) is error
    assert f"{store.url}/a/b" in str(caught.value)
    assert f"{status} {code}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert proxy.seen == ["PUT"] * tries
    assert not direct.exists("a/b")


def test_checksums_can_be_left_out_for_servers_that_reject_them(ministack, bucket):
    store = S3Store(StoreSettings(url=f"s3://{bucket}", s3_endpoint=ministack, s3_checksums="when_required"))
    assert store.create("a", b"1") and store.read("a") == b"1"


def test_objects_carry_sha256_and_nonce(direct, ministack, bucket):
    direct.create("a/b", b"1")
    metadata = client_of(ministack).head_object(Bucket=bucket, Key="p/a/b")["Metadata"]
    assert metadata["sha256"] == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert re.fullmatch("[0-9a-f]{32}", metadata["nonce"])


def test_a_listing_of_many_pages(direct, monkeypatch):
    found = [f"a/{i:02d}" for i in range(30)]
    for key in found:
        direct.create(key, b"")
    for page in (1, 7, 29, 30, 31):
        monkeypatch.setattr(direct, "PAGE", page)
        assert list(direct.list("a/")) == found
        assert list(direct.list("a/1")) == found[10:20]


def test_a_store_that_vanishes_is_unavailable_within_bounded_time(credentials, tmp_path, servers):
    with servers.run_ministack(tmp_path) as (address, server):
        store = S3Store(
            StoreSettings(
                url=f"s3://{servers.make_bucket(address)}", s3_endpoint=address, timeout=LIMIT / 100, attempts=2
            )
        )
        store.create("a", b"1")
        server.kill()
        server.wait()
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="is the store running"):
            store.create("b", b"2")
        with pytest.raises(StoreUnavailableError):
            preflight(store, writers=4)
        assert time.monotonic() - started < LIMIT


def test_a_server_that_never_answers_is_unavailable_within_bounded_time(credentials, silent_server):
    store = S3Store(StoreSettings(url="s3://bucket", s3_endpoint=silent_server, timeout=0.2, attempts=2))
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.read("a")
    assert time.monotonic() - started < LIMIT


def errors_of_botocore():
    found = [c for c in vars(exceptions).values() if inspect.isclass(c) and issubclass(c, Exception)]
    return [c for c in found if c.__module__ == exceptions.__name__ and not issubclass(c, Warning)]


def blank(error: type[Exception]) -> Exception:
    """Return an instance with a value for every field of the class's message format."""
    if issubclass(error, exceptions.ClientError):
        return error({"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": 418}}, "PutObject")
    fields = set(re.findall(r"{(\w+)", getattr(error, "fmt", ""))) | set(inspect.signature(error).parameters)
    return error(**{field: "x" for field in fields - {"args", "kwargs"}})


def test_every_error_of_botocore_is_translated():
    """Fails if a new version of botocore has an error that `translate` does not handle."""
    assert len(errors_of_botocore()) > 50
    not_raised_by_calls = {"UndefinedModelAttributeError", "MissingServiceIdError"}  # of botocore's own data files
    for error in errors_of_botocore():
        if error.__name__ in not_raised_by_calls:
            continue
        assert issubclass(error, exceptions.BotoCoreError | exceptions.ClientError), error
        translated = translate(blank(error), "s3://b/k")
        assert isinstance(translated, DatamodelsError) and "s3://b/k" in str(translated)
        about_the_network = re.search(
            "Timeout|Connect|Closed|Stream(ing)?Error|Incomplete|HTTP|Retrieval", error.__name__
        )
        if about_the_network and not issubclass(error, exceptions.ClientError) and "Unseekable" not in error.__name__:
            assert type(translated) is StoreUnavailableError, error
        elif "Checksum" in error.__name__ and "Config" not in error.__name__:
            assert type(translated) is CorruptObjectError, error
        else:
            assert type(translated) in (SettingsError, StoreError, StoreUnavailableError), error


def test_an_absent_object_is_not_a_wrong_setting():
    answer = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    assert type(translate(exceptions.ClientError(answer, "HeadObject"), "k")) is ObjectNotFoundError


def test_only_one_module_imports_botocore():
    package = pathlib.Path(inspect.getfile(S3Store)).parents[1]
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) (boto3|botocore)", path.read_text(), re.MULTILINE)
    }
    assert users == {"storage/s3.py"}
