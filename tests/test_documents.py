"""Links, paths and commands of the documents exist, and the project's YAML files are valid."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from checkout import ROOT
from source_tree import SOURCES

from m2hf import __version__
from m2hf.cli.app import app

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
HISTORY = "CHANGELOG.md"  # it may name what is gone

# Folders in which a quoted path starts, and parts of one that stand for a name to fill in.
TOP = ("benchmarks", "data_manifests", "docs", "extract", "fuse", "m2hf", "pipelines", "tests")
PLACEHOLDER = re.compile(r"NAME|FAMILY|[<>*{}]")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def quoted(name: str) -> Iterator[str]:
    """Code spans and the lines of code blocks."""
    blocks = re.split(r"^\s*```.*\n", text(name), flags=re.MULTILINE)
    for prose in blocks[::2]:
        yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))
    for code in blocks[1::2]:
        yield from code.splitlines()


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_to_files_and_headings(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text(name)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name}: {link}"
        assert not anchor or anchor in anchors(path), f"{name}: {link}"


@pytest.mark.parametrize("name", [name for name in NAMES if name != HISTORY])
def test_quoted_paths_exist(name: str) -> None:
    for code in quoted(name):
        if "/" not in code or " " in code or PLACEHOLDER.search(code):
            continue
        path = code.partition("::")[0]
        if path.split("/")[0] in TOP or path.startswith((".ci/", ".github/")):
            assert (ROOT / path).exists(), f"{name}: {code}"


def test_modules_of_the_glossary_exist() -> None:
    rows = [line for line in text("docs/glossary.md").splitlines() if line.startswith("| **")]
    assert len(rows) > 50
    for row in rows:
        modules = re.findall(r"`([^`]+)`", row.split(" | ")[-1])
        assert modules, row
        assert all((ROOT / module).is_file() for module in modules), row


@pytest.mark.parametrize("name", [name for name in NAMES if name != HISTORY])
def test_commands_have_verbs_that_the_cli_has(name: str) -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for code in quoted(name):
        for verb, rest in re.findall(r"(?:^|[ /])m2hf +([a-z][a-z-]*)\b[ ]*(\S*)", code):
            assert verb in verbs, f"{name}: {code}"
            inner = getattr(verbs[verb], "commands", None)
            if inner and re.fullmatch(r"[a-z][a-z-]*", rest):
                assert rest in inner, f"{name}: {code}"
        for module in re.findall(r"python -m ((?:benchmarks|m2hf)[\w.]*)", code):
            assert find_spec(module.rstrip(".")), f"{name}: {code}"
        for target in re.findall(r"^make ([a-z]+)", code):
            assert re.search(rf"^{target}:", text("Makefile"), flags=re.MULTILINE), code


def load(name: str) -> Any:
    return yaml.safe_load(text(name))


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = load(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert job["runs-on"].startswith("ubuntu")
    assert ":3.11-" in job["container"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]


def test_hooks_are_local_and_are_the_checks_of_the_makefile() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    makefile = text("Makefile").replace("$(BIN)", ".venv/bin")
    for hook in repository["hooks"]:
        assert hook["entry"] in makefile
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_what_github_requires(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = load("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert "2208.07664" in paper["url"]
    assert len(paper["authors"]) == 8


def tree(page: str) -> tuple[list[str], list[str]]:
    """Folders and files of the tree in a page, each of whose lines has a description."""
    drawn = text(page).rpartition("```\nm2hf/")[2].partition("```")[0]
    above: list[str] = []
    folders, files = [], []
    for line in f"m2hf/{drawn}".splitlines():
        name, *described = line.split()
        assert described, line
        above[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        (files if name.endswith(".py") else folders).append("/".join(above))
    return folders, files


def test_the_architecture_page_is_short_and_has_a_line_for_every_folder() -> None:
    assert len(text("docs/architecture.md").split()) <= 1000
    folders, files = tree("docs/architecture.md")
    assert not files
    packages = {path.parent for path in SOURCES.values()}
    data = {"pipelines/recipes"}
    assert {*folders} == {str(path.relative_to(ROOT)) for path in packages} - data


def test_every_module_has_a_line() -> None:
    folders, files = tree("docs/modules.md")
    assert folders == tree("docs/architecture.md")[0]
    modules = [path for path in SOURCES.values() if path.name != "__init__.py"]
    assert sorted(files) == sorted(str(path.relative_to(ROOT)) for path in modules)
