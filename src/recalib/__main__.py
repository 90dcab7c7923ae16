"""``python -m recalib``."""

import sys

from recalib.cli import main

if __name__ == "__main__":
    sys.exit(main())
