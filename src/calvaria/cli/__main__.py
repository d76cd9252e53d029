"""``python -m calvaria.cli``: the same as the command ``calvaria``."""

import sys

from calvaria.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
