"""Build the wheel, install its base into a clean environment, and use it elsewhere.

The base is what the wheel's own metadata requires: no extra, so no torch. Manifests, tables,
traces, reports, import and export work there; a verb that needs an extra ends with one line that
names it.
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
SMOKE = """
import importlib.util
import m2hf.shard, m2hf.manifest, m2hf.ledger, m2hf.cli.app, m2hf.cli.recipe
import m2hf.fuse.scores.metrics, m2hf.fuse.scores.similarity_file
from importlib.resources import files
from pathlib import Path
from m2hf.cli.recipe import load_recipe
from m2hf.data_manifests.build import READERS, card
assert all(card(name).splits for name in READERS)
assert not any(map(importlib.util.find_spec, ("torch", "dask", "PIL", "matplotlib", "scipy")))
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
# Every verb's --help, and every setting, in one process.
HELP = """
import typer.main
from typer.testing import CliRunner
from m2hf.cli.app import app
def verbs(command, path=()):
    for name, child in getattr(command, "commands", {}).items():
        yield from verbs(child, (*path, name))
    yield path
for path in verbs(typer.main.get_command(app)):
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0 and "Usage:" in shown.output, (path, shown.output)
shown = CliRunner().invoke(app, ["config", "--config", "demo"])
assert shown.exit_code == 0 and "fuse.train.lr = " in shown.output, shown.output
"""
# A finished run, made by this checkout: its thumbnails need pillow.
SEEN_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from seen_run import SeenRun
SeenRun(Path("seen"), [f"v{i}" for i in range(6)])
"""
# Arrays to import: one folder with a file for each video but the last.
ARRAYS = """
import numpy
from pathlib import Path
Path("depth").mkdir()
for i in range(5):
    numpy.save(f"depth/v{i}.npy", numpy.ones((3, 4), numpy.float32))
"""


def run(*command: str, cwd: Path) -> None:
    """Run a command with no trace of this checkout in its environment."""
    subprocess.run(command, cwd=cwd, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def refused(*command: str, cwd: Path) -> str:
    """What a command prints that has to end with exit code 2."""
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 2, done
    return done.stderr


def use_base(m2hf: str, here: Path) -> None:
    """A finished run as table, trace and report, and features of it in and out."""
    seen = ("--manifest", "seen/manifest", "--store", "seen/store")
    run(m2hf, "tables", "seen/run/similarity.h5", "--out", "t.md", cwd=here)
    run(m2hf, "trace", "t.md", "late_fusion", "--run", "seen/run", cwd=here)
    run(m2hf, "report", *seen, "--run", "seen/run", "--out", "report.html", cwd=here)
    assert "late_fusion" in (here / "report.html").read_text(encoding="utf-8")
    run(m2hf, "verify", *seen, cwd=here)
    imported = ("--manifest", "seen/manifest", "--store", "imported")
    run(m2hf, "import", *imported, "--stream", "depth=depth", cwd=here)
    export = ("export", *imported, "--stream", "depth", "--format", "npz", "--out", "exported")
    run(m2hf, *export, cwd=here)
    assert len(list((here / "exported" / "depth").glob("*.npz"))) == 5
    for verb, paths, extra in (
        ("train", (*seen, "--run", "r"), "fuse"),
        ("extract", (*seen, "--media", "videos"), "extract"),
        ("manifest toybox", ("--out", "toybox"), "demo"),
    ):
        line = refused(m2hf, *verb.split(), *paths, cwd=here)
        assert line.count("\n") == 1, line
        assert line.startswith(f"m2hf: {verb} needs "), line
        assert f"pip install 'm2hf[{extra}]' (in a checkout: pip install '.[{extra}]')" in line, (
            line
        )


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
        run(python, "-m", "pip", "-q", "install", *constraints, str(wheel), cwd=here)
        run(python, "-m", "pip", "check", cwd=here)
        run(python, "-W", "error", "-c", SMOKE, cwd=here)
        run(python, "-W", "error", "-c", HELP, cwd=here)
        run(str(here / "env" / "bin" / "m2hf"), "--version", cwd=here)
        run(python, "-m", "m2hf", "--version", cwd=here)
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
        run(sys.executable, "-c", SEEN_RUN, str(ROOT / "tests" / "helpers"), cwd=here)
        run(python, "-c", ARRAYS, cwd=here)
        use_base(str(here / "env" / "bin" / "m2hf"), here)
    print("wheel smoke test passed")


if __name__ == "__main__":
    main()
