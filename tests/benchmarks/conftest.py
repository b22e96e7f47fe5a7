"""The benchmarks are scripts beside the package: what tests them must find them from any working directory."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
