"""The layout is the architecture: imports run one way, and the packages are the folders."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT
from source_tree import PROJECT, SOURCES, imports

HEAVY = {
    "torch",
    "torchvision",
    "dask",
    "distributed",
    "whisper",
    "easyocr",
    "open_clip",
    "librosa",
    "transformers",
}


@pytest.mark.parametrize("path", SOURCES.values(), ids=list(SOURCES))
def test_no_shell_no_pickle_no_relative_import(path: Path) -> None:
    code = path.read_text(encoding="utf-8")
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            raise AssertionError(f"{path}: subprocesses take argument lists, never a shell")
        if isinstance(node, ast.keyword) and node.arg == "weights_only":
            assert ast.literal_eval(node.value) is True, f"{path}: weights are data"
        assert not getattr(node, "level", 0), f"{path}: relative import"
    assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(code)}


@pytest.mark.parametrize("path", SOURCES.values(), ids=list(SOURCES))
def test_a_file_stays_one_noun(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{path}: {lines} lines; look for the missing noun"


def test_package_list_is_the_folders() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {module for module, path in SOURCES.items() if path.name == "__init__.py"}
    assert listed == found


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_contract_and_tables_import_without_torch() -> None:
    light = ("", ".exchange", ".fuse.features", ".fuse.scores", ".fuse.report", ".fuse.tables")
    modules = [m for m in SOURCES if m.rpartition(".")[0] in {f"m2hf{part}" for part in light}]
    modules += ["m2hf.cli.app", "m2hf.cli.recipe", "m2hf.fuse.config", "m2hf.fuse.run_folder"]
    modules += ["m2hf.data_manifests.build", "m2hf.data_manifests.folder", "m2hf.pipelines.config"]
    listed = ", ".join(modules)
    run_python(f"import sys, {listed}\nassert not {HEAVY} & set(sys.modules)")


def test_fusion_works_without_the_extraction_packages() -> None:
    blocked = sorted(HEAVY - {"torch"} | {"cv2", "ffmpeg", "imageio_ffmpeg", "tiktoken"})
    run_python(
        f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import m2hf.fuse.training.run, m2hf.fuse.evaluation.evaluate, m2hf.fuse.tables
import m2hf.cli.app, m2hf.cli.recipe
"""
    )


def test_flags_are_frozen() -> None:
    """A new setting goes into the config, not on the command line; change this on purpose."""
    import typer.main

    from m2hf.cli.app import app

    def flags(command: object, path: str = "") -> Iterator[str]:
        for name, child in sorted(getattr(command, "commands", {}).items()):
            yield from flags(child, f"{path} {name}".strip())
        if not hasattr(command, "commands"):
            options = sorted(p.opts[0] for p in getattr(command, "params", []))
            yield f"{path}: {' '.join(options)}"

    assert list(flags(typer.main.get_command(app))) == [
        "app: --config --host --manifest --media --port --project --run --set --split --store",
        "bundle: --from --out table",
        "config: --config --json --markdown --project --set",
        "demo: --clips --out --seed --workers",
        "eval: --baselines --config --manifest --out --project --run --set --split --store "
        "--zero-shot",
        "export: --format --json --manifest --out --project --store --stream",
        "extract: --array --config --manifest --media --only --project --scheduler --set "
        "--store --workers",
        "import: --captions --json --manifest --project --skip-unknown --store --stream",
        "init: --caption-column --captions --config --id-column --name --split-column videos",
        "manifest build: --annotations --json --media --out --splits name",
        "manifest check: --json --media --project manifest",
        "manifest from-captions: --caption-column --id-column --name --out --split-column captions",
        "manifest from-folder: --caption-column --captions --id-column --name --out "
        "--split-column videos",
        "manifest list: --json",
        "manifest toybox: --clips --kind --out --seed --store",
        "matrices: --dsl --fuse --group-maximum --json --out --qb --qb-scale --queries "
        "--query-ids --tune-on-test --val-matrix --val-queries --video-ids --weights matrix",
        "plan: --config --json --manifest --media --only --project --set --store",
        "report: --kinds --manifest --out --project --run --similarity --store",
        "reproduce: --out file",
        "retry: --array --config --damaged --manifest --media --only --project --scheduler "
        "--set --store --workers",
        "search: --config --json --manifest --project --run --set --split --store --top query",
        "show: --html --json --manifest --media --project --store names",
        "status: --config --json --manifest --media --only --project --set --store",
        "sweep: --config --manifest --out --project --scheduler --set --split --store "
        "--workers grid",
        "tables: --dsl --group-maximum --json --kinds --out --project --qb-scale files",
        "trace: --json --kinds --manifest --project --run --store row table",
        "train: --config --manifest --overwrite --project --run --set --store",
        "upgrade: --json --project --store",
        "verify: --json --manifest --only --project --store",
        "weights check: --config --json --only --project --set",
        "weights list: --config --json --only --project --set",
        "weights pull: --config --only --project --set",
    ]


def test_every_recipe_parses_and_says_how_to_use_it() -> None:
    from m2hf.cli.recipe import Recipe, load_recipe, recipe_data
    from m2hf.config import assign, parse
    from m2hf.fuse.sweep.grid_file import GridFile

    recipes = sorted((ROOT / "pipelines" / "recipes").glob("*.toml"))
    assert recipes
    grids = sorted((ROOT / "pipelines" / "recipes" / "grids").glob("*.toml"))
    assert grids
    for path in recipes:
        load_recipe(path, [])
    for path in grids:
        for cell in GridFile.read(path).all():
            data = recipe_data(None, [])
            for key, value in cell.settings.items():
                assign(data, key, value, str(path))
            parse(Recipe, data, cell.name)
    for path in [*recipes, *grids]:
        header = path.read_text(encoding="utf-8").partition("\n\n")[0]
        for word in ("m2hf ", "Time:", "Expect:"):
            assert word in header, f"{path}: the header lacks {word!r}"
