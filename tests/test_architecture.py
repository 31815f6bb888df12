"""The layout is the architecture: imports run one way, and the packages are the folders."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]

MAY_IMPORT = {
    "m2hf": {"m2hf"},
    "m2hf.cli": {"m2hf", "m2hf.cli", "m2hf.extract", "m2hf.fuse", "m2hf.pipelines"}
    | {"m2hf.data_manifests", "m2hf.fuse.report", "m2hf.fuse.tables"},
    "m2hf.extract": {"m2hf", "m2hf.extract"},
    "m2hf.fuse": {"m2hf", "m2hf.fuse"},
    "m2hf.fuse.report": {"m2hf", "m2hf.fuse", "m2hf.fuse.report", "m2hf.fuse.tables"},
    "m2hf.fuse.tables": {"m2hf", "m2hf.fuse", "m2hf.fuse.tables"},
    "m2hf.pipelines": {"m2hf", "m2hf.extract", "m2hf.pipelines"},
    "m2hf.data_manifests": {"m2hf", "m2hf.data_manifests"},
}
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


def part_of(module: str) -> str:
    """The part that a module belongs to: the longest listed prefix."""
    return max((p for p in MAY_IMPORT if f"{module}.".startswith(f"{p}.")), key=len)


def sources() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *inside]), path


def imports(path: Path, top_level: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("module", "path"), [*sources()], ids=lambda value: str(value)[-40:])
def test_imports_run_one_way(module: str, path: Path) -> None:
    part = part_of(module)
    for name in imports(path):
        if name.split(".")[0] == "m2hf":
            assert part_of(name) in MAY_IMPORT[part], f"{module} imports {name}"
        if name.split(".")[0] in ("dask", "distributed"):
            cluster = module.startswith("m2hf.pipelines.cluster.")
            assert cluster, f"{module} imports {name}"
        if name.split(".")[0] in HEAVY:
            assert part != "m2hf", f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), [*sources()], ids=lambda value: str(value)[-40:])
def test_no_shell_and_no_pickle(module: str, path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            raise AssertionError(f"{path}: subprocesses take argument lists, never a shell")
        if isinstance(node, ast.keyword) and node.arg == "weights_only":
            assert ast.literal_eval(node.value) is True, f"{path}: weights are data"
    assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize(("module", "path"), [*sources()], ids=lambda value: str(value)[-40:])
def test_a_file_stays_one_noun(module: str, path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{path}: {lines} lines; look for the missing noun"


def test_package_list_is_the_folders() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {m.removesuffix(".__init__") for m, p in sources() if p.name == "__init__.py"}
    assert listed == found


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_contract_and_tables_import_without_torch() -> None:
    modules = [m for m, _ in sources() if part_of(m) == "m2hf" and not m.endswith("__init__")]
    modules += ["m2hf.cli.app", "m2hf.cli.recipe", "m2hf.pipelines.config"]
    modules += ["m2hf.data_manifests.build", "m2hf.data_manifests.folder"]
    without = ("m2hf.fuse.report", "m2hf.fuse.tables")
    modules += [m for m, _ in sources() if part_of(m) in without]
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
        "app: --config --host --manifest --media --port --run --set --split --store",
        "demo: --clips --out --seed --workers",
        "eval: --config --manifest --run --set --split --store",
        "export: --format --json --manifest --out --store --stream",
        "extract: --array --config --manifest --media --only --scheduler --set --store --workers",
        "import: --captions --json --manifest --store --stream",
        "manifest build: --annotations --json --media --out --splits name",
        "manifest check: --json --media manifest",
        "manifest from-folder: --captions --name --out videos",
        "manifest list: --json",
        "manifest toybox: --clips --out --seed --store",
        "plan: --config --json --manifest --media --only --set --store",
        "report: --kinds --manifest --out --run --similarity --store",
        "retry: --array --config --manifest --media --only --scheduler --set --store --workers",
        "search: --config --json --manifest --run --set --split --store --top query",
        "show: --html --json --manifest --media store video",
        "status: --config --json --manifest --media --only --set --store",
        "tables: --dsl --fuse --group-maximum --json --kinds --matrix --out --qb --qb-scale "
        "--queries --query-ids --tune-on-test --val-matrix --val-queries --video-ids --weights "
        "files",
        "trace: --json --manifest --run --store row table",
        "train: --config --manifest --run --set --store",
        "verify: --json --manifest --only --store",
        "weights check: --config --json --only --set",
        "weights list: --config --json --only --set",
        "weights pull: --config --only --set",
    ]


def test_every_recipe_parses_and_says_how_to_use_it() -> None:
    from m2hf.cli.recipe import load_recipe

    recipes = sorted((ROOT / "pipelines" / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        load_recipe(path, [])
        header = path.read_text(encoding="utf-8").partition("\n\n")[0]
        for word in ("m2hf ", "Time:", "Expect:"):
            assert word in header, f"{path}: the header lacks {word!r}"
