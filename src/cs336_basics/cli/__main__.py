"""`python -m cs336_basics.cli`, the same as `cs336`."""

import sys

from cs336_basics.cli.main import main

sys.exit(main())
