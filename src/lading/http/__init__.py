"""HTTP: the one room that talks to other machines."""

from __future__ import annotations

from lading.http.client import Client
from lading.http.origin import Origin, is_loopback, join
from lading.http.patience import Patience
from lading.http.ranges import RemoteFile
from lading.http.response import Body, Response
from lading.http.sending import Payload

__all__ = ["Body", "Client", "Origin", "Patience", "Payload", "RemoteFile", "Response", "is_loopback", "join"]
