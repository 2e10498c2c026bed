"""The two engines are compared where the original is built; the goldens stand in for it elsewhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare

collect_ignore = [] if compare.original_built() else ["test_parity.py"]
