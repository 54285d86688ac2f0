"""``python -m robustbench_snn.explain``."""

import sys

from robustbench_snn.explain.command import main

if __name__ == "__main__":
    sys.exit(main())
