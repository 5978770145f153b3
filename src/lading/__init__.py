"""lading carries language models as OCI artifacts."""

from __future__ import annotations

__version__ = "0.1.0"
