"""Build the wheel, install it into a clean environment with few packages, and use it elsewhere.

The environment has what the contract and tables need, and no torch: so this also shows that
`m2hf` imports without it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFTOVERS = [".*", "build", "dist", "demo", "*.egg-info", "__pycache__"]
MOST_BYTES = 8_000_000  # of the wheel, with the weights of the tiny CLIP
LIGHT = ["h5py", "jinja2", "numpy", "pydantic", "rich", "tomli-w", "typer"]
SMOKE = """
import importlib.util
import m2hf.shard, m2hf.manifest, m2hf.ledger, m2hf.cli.app, m2hf.cli.recipe
import m2hf.fuse.scores.metrics, m2hf.fuse.scores.similarity_file
from importlib.resources import files
from pathlib import Path
from m2hf.cli.recipe import load_recipe
from m2hf.data_manifests.build import READERS, card
assert all(card(name).splits for name in READERS)
assert importlib.util.find_spec("torch") is None
assert (files("m2hf.extract.networks") / "m2hf-tiny.json").is_file()
assert (files("m2hf.extract.networks") / "m2hf-tiny.safetensors").is_file()
assert (files("m2hf.pipelines.timeline") / "timeline.html").is_file()
assert all((files("m2hf.fuse.search.web") / name).is_file() for name in ("page.html", "style.css"))
assert (files("m2hf.pipelines.deploy") / "slurm_array.sbatch").is_file()
assert load_recipe(Path("demo"), [])[0].extract.encoder.model == "m2hf-tiny"
assert "site-packages" in m2hf.shard.__file__, m2hf.shard.__file__
import m2hf.fuse.report.page, m2hf.fuse.tables.given.matrix_table
assert (files("m2hf.fuse.report") / "page.js").is_file()
assert (files("m2hf.fuse.report") / "style.css").is_file()
from m2hf.fuse.tables.formats import render
from m2hf.fuse.tables.table import Table
assert render(Table(()), ".html").startswith("<!doctype html>")
"""


def run(*command: str, cwd: Path) -> None:
    """Run a command with no trace of this checkout in its environment."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(command, cwd=cwd, env=keep, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        pip = (sys.executable, "-m", "pip", "-q", "--no-input")
        wheel_options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(here))
        source = here / "source"
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFTOVERS))
        run(*pip, "wheel", *wheel_options, str(source), cwd=here)
        (wheel,) = here.glob("m2hf-*.whl")
        assert wheel.stat().st_size < MOST_BYTES, f"{wheel.stat().st_size} bytes"
        venv.create(here / "env", with_pip=True)
        python = str(here / "env" / "bin" / "python")
        constraints = ("-c", str(ROOT / "constraints.txt"))
        run(python, "-m", "pip", "-q", "install", *constraints, *LIGHT, cwd=here)
        run(python, "-m", "pip", "-q", "install", "--no-deps", str(wheel), cwd=here)
        run(python, "-W", "error", "-c", SMOKE, cwd=here)
        run(str(here / "env" / "bin" / "m2hf"), "--version", cwd=here)
        run(python, "-c", "import numpy; numpy.save('m.npy', numpy.eye(4))", cwd=here)
        given = ("m=m.npy", "--fuse", "sum", "--dsl", "100", "--out", "table.html")
        run(str(here / "env" / "bin" / "m2hf"), "matrices", *given, cwd=here)
        run(str(here / "env" / "bin" / "m2hf"), "trace", "table.html", "sum(m)", cwd=here)
        (here / "videos").mkdir()
        (here / "videos" / "a.mp4").write_bytes(b"x")
        (here / "captions.csv").write_text("id,caption,split\na,a word,test\n", encoding="utf-8")
        from_folder = ("manifest", "from-folder", "videos", "--captions", "captions.csv")
        run(str(here / "env/bin/m2hf"), *from_folder, "--out", "made", cwd=here)
        run(str(here / "env/bin/m2hf"), "manifest", "check", "made", cwd=here)
    print("wheel smoke test passed")


if __name__ == "__main__":
    main()
