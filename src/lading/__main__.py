"""`python -m lading`."""

from __future__ import annotations

import sys

from lading.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
