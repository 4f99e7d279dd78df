"""`python -m pipelines` is the command line, as `medkeras` is."""

import sys

from pipelines.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
