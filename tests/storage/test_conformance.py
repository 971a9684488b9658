"""Runs the conformance tests on our stores."""

import pytest

from datamodels.settings import StoreSettings
from datamodels.storage import open_store
from datamodels.testing.stores import StoreTests
from tests.storage.conftest import client_of, empty


class TestLocalStore(StoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        return open_store(StoreSettings(url=f"file://{tmp_path}/made/store"))

    def alter(self, store, key, data):
        with open(f"{store.url.removeprefix('file://')}/{key}", "wb") as file:
            file.write(data)


@pytest.fixture(scope="module")
def shared(ministack, bucket):
    return open_store(StoreSettings(url=f"s3://{bucket}/a/prefix", s3_endpoint=ministack))


class TestS3Store(StoreTests):
    rounds = 5  # who wins is decided by MiniStack, whose code is not ours

    @pytest.fixture
    def store(self, shared, ministack, bucket):
        self.address, self.bucket = ministack, bucket
        empty(shared)
        return shared

    def alter(self, store, key, data):
        client_of(self.address).put_object(Bucket=self.bucket, Key=f"a/prefix/{key}", Body=data)
