"""Who we are to a registry: credentials, and the dance that turns them into a header."""

from __future__ import annotations

from lading.auth.authorizer import Authorizer
from lading.auth.credentials import Credential, Keychain

__all__ = ["Authorizer", "Credential", "Keychain"]
