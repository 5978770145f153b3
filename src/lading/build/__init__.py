"""Making files of models: llama.cpp's own tools, found or fetched, told by typed options and run as children.

Each works on named files, knows nothing of recipes or the store, and leaves either the whole result or nothing.
"""

from __future__ import annotations
