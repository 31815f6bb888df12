"""The base install is light, and what it lacks is one line that names an extra."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

from m2hf.cli.extras import MODULES, VERBS, missing_extra

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"].values()
COMMAND = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["m2hf", *{arguments!r}]
from m2hf.cli.app import main
main()
"""
EVERY_HELP = """
import typer.main
from typer.testing import CliRunner
from m2hf.cli.app import app
def verbs(command, path=()):
    for name, child in getattr(command, "commands", {}).items():
        yield from verbs(child, (*path, name))
    yield path
for path in verbs(typer.main.get_command(app)):
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0, (path, shown.output)
"""


def distribution(requirement: str) -> str:
    """The normalised name in a requirement such as "torch>=2.4"."""
    name = re.split(r"[\[<>=!~ ]", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def without(blocked: set[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run m2hf as if the modules `blocked` were not installed."""
    code = COMMAND.format(blocked=sorted(blocked), arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def installer() -> Any:
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(folder: Path) -> set[str]:
    """Top-level names of all absolute imports below `folder`."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


def test_every_imported_package_is_of_the_base_or_of_an_extra() -> None:
    names = set().union(*(imported(ROOT / folder) for folder in FOLDERS))
    foreign = names - sys.stdlib_module_names - {"m2hf"}
    of_extras = {module for modules in MODULES.values() for module in modules}
    base = {distribution(one) for one in PROJECT["project"]["dependencies"]}
    of_module = packages_distributions()
    for module in sorted(foreign - of_extras - {"markupsafe"}):  # which comes with jinja2
        names = {distribution(name) for name in of_module.get(module, [])}
        assert names & base, f"{module}: in no extra of m2hf/cli/extras.py, and not in the base"
    assert not base & {"torch", "dask", "matplotlib", "pillow"}


def test_every_extra_that_is_named_exists_and_has_the_module() -> None:
    assert {*MODULES, *(extra for extras in VERBS.values() for extra in extras)} <= {*EXTRAS}
    of_module = packages_distributions()
    # These come with a package that the extra lists.
    through = {"ctranslate2": "faster-whisper", "onnxruntime": "faster-whisper",
               "huggingface_hub": "transformers", "distributed": "dask"}  # fmt: skip
    for extra, modules in MODULES.items():
        listed = {distribution(one) for one in EXTRAS[extra]}
        for module in modules:
            names = {distribution(name) for name in of_module.get(module, [])}
            if names:  # the package is installed here
                assert listed & {*names, through.get(module, "")}, f"{module} of {extra}"


def test_all_leaves_out_dev_and_rapidocr_and_the_installer_installs_every_extra() -> None:
    (own,) = EXTRAS["all"]
    assert own == f"m2hf[{','.join(sorted({*EXTRAS} - {'all', 'dev', 'rapidocr'}))}]"
    install = installer()
    found = set(install.requirements(PROJECT["project"], install.EXTRAS))
    assert found == {r for name, rs in EXTRAS.items() if name != "all" for r in rs}


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("torch", "train --run r", "train needs torch; install the extra: pip install 'm2hf[fuse]"),
        ("torch", "extract", "extract needs torch; install the extra: pip install 'm2hf[extract]'"),
        ("distributed.client", "extract --workers 2", "extract needs distributed; install the ext"),
        ("open_clip", "search x", "install the extras: pip install 'm2hf[extract,fuse]' (in a che"),
        ("uvicorn", "app", "pip install 'm2hf[app,extract,fuse]' (in a checkout: pip install '.["),
        ("PIL.Image", "manifest toybox", "manifest toybox needs PIL; install the extra: pip insta"),
        ("pyarrow", "export --format arrow", "pip install '.[arrow]')"),
        ("faster-whisper", "plan", "plan needs faster-whisper; install the extra: pip install 'm2"),
    ],
)  # fmt: skip
def test_the_line_names_the_extra(module: str, arguments: str, said: str) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert said in str(missing_extra(error, arguments.split()))


@pytest.mark.parametrize("module", ["m2hf.nothing", "numpy", None])
def test_another_missing_module_is_a_crash(module: str | None) -> None:
    assert missing_extra(ModuleNotFoundError("none", name=module), ["train"]) is None


def test_a_verb_without_its_extra_ends_with_one_line() -> None:
    paths = ("--manifest", "m", "--store", "s", "--run", "r")
    done = without({"torch"}, "train", *paths)
    assert done.returncode == 2
    assert done.stderr == (
        "m2hf: train needs torch; install the extra: pip install 'm2hf[fuse]' "
        "(in a checkout: pip install '.[fuse]')\n"
    )
    crashed = without({"h5py"}, "verify", "--manifest", "m", "--store", "s")
    assert crashed.returncode == 1
    assert "Traceback" in crashed.stderr


def test_every_help_works_with_the_base_alone() -> None:
    blocked = {module for modules in MODULES.values() for module in modules}
    shown = without(blocked, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "manifest" in shown.stdout
    code = COMMAND.format(blocked=sorted(blocked), arguments=[]).replace("main()", EVERY_HELP)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_m_m2hf_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "m2hf", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Usage: m2hf " in done.stdout
