"""Where the benchmarks' modules are found: they are scripts, no package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
