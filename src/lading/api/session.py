"""A session: one configuration, one store, one reporter; what every function of the library works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lading.errors import NetworkError
from lading.events import Silent

if TYPE_CHECKING:
    from lading.config import Config
    from lading.events import Reporter
    from lading.http import Client
    from lading.store import Store


@dataclass(frozen=True)
class Session:
    """Everything a verb needs from outside: settings, where progress goes, whether the network may be used.

    `insecure` lets registries be reached without trusted TLS, as `--insecure` says.
    """

    config: Config
    reporter: Reporter = field(default_factory=Silent)
    offline: bool = False
    insecure: bool = False

    @cached_property
    def store(self) -> Store:
        """The store that the settings name, made when first needed."""
        from lading.store import Store  # noqa: PLC0415 - some verbs need no store

        return Store(self.config.store)

    @cached_property
    def client(self) -> Client:
        """The HTTP client, made when first needed. Raises NetworkError when working offline."""
        if self.offline or self.config.offline:
            msg = "the network is not used offline"
            raise NetworkError(msg, hint="leave --offline or LADING_OFFLINE away")
        from lading.http import Client  # noqa: PLC0415 - urllib3 is loaded only by those who speak HTTP

        return Client(self.config.network, reporter=self.reporter)
