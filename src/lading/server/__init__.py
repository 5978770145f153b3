"""Servers: a runtime's process in the foreground, and those in the background with their records."""

from __future__ import annotations

from lading.server.address import check_address, is_loopback
from lading.server.bare import FileWatch
from lading.server.health import http_probe
from lading.server.log import Allocated
from lading.server.process import Endpoint, Probe, Server, start
from lading.server.record import ServerRecord, allocated, find, logs, name_for, servers, stop
from lading.server.supervisor import Launch, detach

__all__ = [
    "Allocated",
    "Endpoint",
    "FileWatch",
    "Launch",
    "Probe",
    "Server",
    "ServerRecord",
    "allocated",
    "check_address",
    "detach",
    "find",
    "http_probe",
    "is_loopback",
    "logs",
    "name_for",
    "servers",
    "start",
    "stop",
]
