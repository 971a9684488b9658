"""Define the base of the typed clients: it owns or borrows a channel, and retries calls with streams."""

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

    `to` is an address, or a channel that `rpc.client.connect` returned, which the client does not close. A subclass
    makes its stub from `self._channel` and has one method per call. Raises SettingsError if `to` is an empty address.
    """

    with_token = False
    """Whether the service may require the token of a run. Other services never get it."""

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        self._settings = settings or ClientSettings()
        if to == "":
            raise SettingsError(
                f"{type(self).__name__}: no address; set {ClientSettings.prefix}_* to that of the service"
            )
        self._owned = isinstance(to, str)
        self._channel = connect(to, self._settings, with_token=self.with_token) if isinstance(to, str) else to

    def _repeat(self, call: Callable[[], T]) -> T:
        """Return the result of a call, which is retried while the service or its store is unavailable.

        Makes at most `settings.attempts` tries. The call must be idempotent. It is for calls with streams; gRPC itself
        retries the others.
        """
        for attempt in range(1, self._settings.attempts):
            try:
                return call()
            except (UnavailableError, StoreUnavailableError):
                time.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))
        return call()

    def close(self) -> None:
        """End all calls and close the channel, if this client opened it."""
        if self._owned:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
