"""``python -m segkd`` is the command line."""

import sys

from segkd.cli.main import main

sys.exit(main())
