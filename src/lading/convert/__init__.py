"""Converting: a model in one format becomes the same model in others, without its weights being touched.

What is made are manifests and configs; layers are those that lie at the source, or are made of them on the way.
"""

from __future__ import annotations

from lading.convert.forms import Form, Made, make
from lading.convert.found import Found, find
from lading.convert.overlay import Overlay
from lading.convert.press import Press

__all__ = ["Form", "Found", "Made", "Overlay", "Press", "find", "make"]
