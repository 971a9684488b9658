"""Open the object store that the options name: by --home or --store, or through a query service."""

from __future__ import annotations

import argparse
import dataclasses

from datamodels.errors import NotFoundError
from datamodels.settings import StoreSettings
from datamodels.storage import ObjectStore, open_store


def store_settings(options: argparse.Namespace) -> StoreSettings:
    """Return the settings of the store: --store, else DATAMODELS_STORE_URL, else the folder `store` in --home."""
    settings = StoreSettings.load()
    if options.store:
        return dataclasses.replace(settings, url=options.store)
    if settings.url == StoreSettings.url:
        return dataclasses.replace(settings, url=f"file://{options.home.absolute() / 'store'}")
    return settings


def store_of(options: argparse.Namespace, *, create: bool = False) -> ObjectStore:
    """Open the store.

    create  create the folder of a local store if it does not exist

    Raises NotFoundError if the folder does not exist, SettingsError if the URL or the folder cannot be a store.
    """
    try:
        return open_store(store_settings(options), create=create)
    except NotFoundError as error:
        raise NotFoundError(f"{error}; --home or --store names another") from None


def in_cluster(options: argparse.Namespace) -> bool:
    """Return whether the options name a cluster."""
    return bool(options.namespace or options.context or options.kubeconfig)
