"""`python -m mmmed` is `mmmed`."""

import sys

from mmmed.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
