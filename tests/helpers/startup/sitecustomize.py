"""Installs the hooks of tests/helpers/ledger_hooks.py in each Python process that starts."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent.parent / "ledger_hooks.py"))
