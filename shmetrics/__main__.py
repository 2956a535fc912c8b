"""`python -m shmetrics`: the command line."""

import sys

from shmetrics.cli import main

sys.exit(main())
