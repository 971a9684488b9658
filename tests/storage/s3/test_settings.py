"""Settings of S3 that do not work, with real servers."""

import os

import pytest

from datamodels.errors import (
    SettingsError,
)
from datamodels.settings import StoreSettings
from datamodels.storage.s3 import S3Store


def test_a_missing_bucket_is_a_wrong_setting(ministack):
    store = S3Store(StoreSettings(url="s3://no-such-bucket-here", s3_endpoint=ministack))
    for call in (lambda: store.create("a", b""), lambda: store.read("a"), lambda: list(store.list(""))):
        with pytest.raises(
            SettingsError, match=r"no-such-bucket-here.*: the store answered 404 NoSuchBucket"
        ) as caught:
            call()
        assert caught.value.exit_code == 2


def test_wrong_credentials_are_a_wrong_setting(rclone, rclone_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = S3Store(StoreSettings(url=f"s3://{rclone_bucket}", s3_endpoint=rclone))
    with pytest.raises(SettingsError, match="SignatureDoesNotMatch"):
        store.create("a", b"")


def test_missing_credentials_are_a_wrong_setting(ministack, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store(StoreSettings(url="s3://bucket", s3_endpoint=ministack))
    with pytest.raises(SettingsError, match="credentials"):
        store.read("a")


@pytest.mark.parametrize(
    "settings",
    [{"s3_endpoint": "no address"}, {"s3_endpoint": "http://127.0.0.1:1", "s3_checksums": "sometimes"}],
)
def test_settings_that_botocore_refuses_are_refused(settings):
    with pytest.raises(SettingsError, match="cannot be used as a store"):
        S3Store(StoreSettings(url="s3://bucket", **settings))
