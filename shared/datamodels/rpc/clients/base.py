"""What the typed clients share: a channel that is opened, or lent, and closed; calls that are made again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Self, TypeVar

import grpc

from datamodels.errors import SettingsError, StoreUnavailableError, UnavailableError
from datamodels.rpc.client import connect
from datamodels.settings import ClientSettings

T = TypeVar("T")


class Client:
    """Base of the typed clients.

    `to` is an address, or a channel made by `rpc.client.connect`, which stays its owner's to close. A subclass makes
    its stub from `self._channel` and has one method per call, with arrays and core types in and out.
    """

    with_token = False
    """Whether the service may ask for the token of a run; it is shown to no other."""

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        self._settings = settings or ClientSettings()
        if to == "":
            raise SettingsError(
                f"{type(self).__name__}: no address; set {ClientSettings.prefix}_* to where the service is"
            )
        self._owned = isinstance(to, str)
        self._channel = connect(to, self._settings, with_token=self.with_token) if isinstance(to, str) else to

    def _repeat(self, call: Callable[[], T]) -> T:
        """The result of a call with streams, made again while the service, or its store, is unavailable.

        `settings.attempts` times in all. Only for calls that change nothing when made twice; gRPC itself repeats those
        without streams.
        """
        for attempt in range(1, self._settings.attempts):
            try:
                return call()
            except (UnavailableError, StoreUnavailableError):
                time.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))
        return call()

    def close(self) -> None:
        """Ends all calls and closes the channel, where this client opened it."""
        if self._owned:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
