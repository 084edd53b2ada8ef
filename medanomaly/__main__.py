"""``python -m medanomaly`` is the ``medanomaly`` command."""

import sys

from medanomaly.cli.main import main

sys.exit(main())
