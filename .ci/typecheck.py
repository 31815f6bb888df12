"""mypy --strict on the packages under their import names, and on the benchmarks.

The folders lie side by side and import as m2hf.*; mypy follows folders. So it is shown a
generated view of symbolic links in which every folder stands where its name says.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def link_view(view: Path) -> None:
    """Lay out `view`/m2hf/... as links to the folders that pyproject maps."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, folder in project["tool"]["setuptools"]["package-dir"].items():
        place = view.joinpath(*name.split("."))
        if "." in name:
            place.symlink_to(ROOT / folder)
        else:
            place.mkdir()
            for entry in (ROOT / folder).iterdir():
                (place / entry.name).symlink_to(entry)
    (view / "benchmarks").symlink_to(ROOT / "benchmarks")


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        view = Path(temporary)
        link_view(view)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        command += ["--cache-dir", str(ROOT / ".mypy_cache"), "--package", "m2hf"]
        command += ["--package", "benchmarks"]
        return subprocess.run(command, cwd=view).returncode


if __name__ == "__main__":
    sys.exit(main())
