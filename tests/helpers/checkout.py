"""The checkout that is tested. Importing this makes its `benchmarks` importable, which are no part
of the package."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELPERS, DATA = ROOT / "tests" / "helpers", ROOT / "tests" / "data"

sys.path.insert(0, str(ROOT))
