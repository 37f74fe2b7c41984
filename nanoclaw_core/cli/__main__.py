"""`python -m nanoclaw_core.cli` is `nanoclaw`."""

import sys

from nanoclaw_core.cli import main

sys.exit(main())
