"""`python -m pipelines` is the command line, as `medkeras` is."""

import sys

from pipelines.cli.main import main

sys.exit(main())
