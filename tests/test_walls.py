"""Each folder is a wall: which folders and which libraries its files may import.

Parts are folders, and a few files at the root of a folder that others build on. An import counts
wherever it stands, inside a function or under TYPE_CHECKING, too. Change the table on purpose.
"""

import graphlib

import pytest
from source_tree import SOURCES, imports

# part -> the other parts that it may import
MAY_IMPORT: dict[str, str] = {
    "m2hf": "",
    "m2hf.exchange": "m2hf",
    "m2hf.__main__": "m2hf.cli",
    "m2hf.cli": "m2hf m2hf.exchange m2hf.data_manifests m2hf.data_manifests.toybox "
    "m2hf.extract m2hf.extract.weights m2hf.pipelines m2hf.pipelines.config "
    "m2hf.pipelines.cluster m2hf.pipelines.timeline m2hf.fuse m2hf.fuse.config "
    "m2hf.fuse.level_table "
    "m2hf.fuse.evaluation m2hf.fuse.training m2hf.fuse.tables m2hf.fuse.tables.given "
    "m2hf.fuse.bundle m2hf.fuse.report m2hf.fuse.search m2hf.fuse.search.web m2hf.fuse.sweep",
    "m2hf.data_manifests": "m2hf",
    "m2hf.data_manifests.toybox": "m2hf m2hf.data_manifests",
    "m2hf.extract.weights": "m2hf",
    "m2hf.extract.inference": "m2hf",
    "m2hf.extract.media": "m2hf",
    "m2hf.extract.base": "m2hf m2hf.extract.inference m2hf.extract.media m2hf.extract.weights",
    "m2hf.extract.networks": "m2hf m2hf.extract.base m2hf.extract.inference m2hf.extract.weights",
    "m2hf.extract.speech": "m2hf m2hf.extract.inference m2hf.extract.networks m2hf.extract.weights",
    "m2hf.extract": "m2hf m2hf.extract.base m2hf.extract.inference m2hf.extract.media "
    "m2hf.extract.networks m2hf.extract.speech m2hf.extract.weights",
    "m2hf.pipelines": "m2hf m2hf.pipelines.config m2hf.extract.base "
    "m2hf.extract.inference m2hf.extract.media m2hf.extract.weights",
    "m2hf.pipelines.config": "m2hf m2hf.extract m2hf.extract.base m2hf.extract.media "
    "m2hf.extract.networks",
    "m2hf.pipelines.cluster": "m2hf m2hf.pipelines",
    "m2hf.pipelines.timeline": "m2hf m2hf.extract m2hf.extract.media",
    "m2hf.pipelines.deploy": "",
    "m2hf.pipelines.recipes": "",
    "m2hf.fuse.level_table": "m2hf",
    "m2hf.fuse.config": "m2hf m2hf.fuse.level_table",
    "m2hf.fuse": "m2hf m2hf.fuse.config",
    "m2hf.fuse.features": "m2hf m2hf.fuse.config m2hf.fuse.level_table",
    "m2hf.fuse.scores": "m2hf m2hf.fuse.config m2hf.fuse.level_table m2hf.fuse.features",
    "m2hf.fuse.model": "m2hf m2hf.fuse.config m2hf.fuse.level_table m2hf.fuse.features "
    "m2hf.fuse.scores",
    "m2hf.fuse.evaluation": "m2hf m2hf.fuse m2hf.fuse.config m2hf.fuse.level_table "
    "m2hf.fuse.features m2hf.fuse.scores "
    "m2hf.fuse.model",
    "m2hf.fuse.training": "m2hf m2hf.fuse m2hf.fuse.config m2hf.fuse.level_table "
    "m2hf.fuse.features m2hf.fuse.scores "
    "m2hf.fuse.model m2hf.fuse.evaluation",
    "m2hf.fuse.tables": "m2hf m2hf.fuse m2hf.fuse.level_table m2hf.fuse.scores",
    "m2hf.fuse.tables.given": "m2hf m2hf.fuse.scores m2hf.fuse.model m2hf.fuse.tables",
    "m2hf.fuse.sweep": "m2hf m2hf.fuse m2hf.fuse.config m2hf.fuse.level_table m2hf.fuse.features "
    "m2hf.fuse.scores m2hf.fuse.evaluation m2hf.fuse.training m2hf.fuse.tables",
    "m2hf.fuse.bundle": "m2hf m2hf.fuse m2hf.fuse.config m2hf.fuse.scores m2hf.fuse.evaluation "
    "m2hf.fuse.tables",
    "m2hf.fuse.report": "m2hf m2hf.fuse m2hf.fuse.level_table m2hf.fuse.features m2hf.fuse.scores "
    "m2hf.fuse.tables",
    "m2hf.fuse.search": "m2hf m2hf.fuse m2hf.fuse.config m2hf.fuse.level_table "
    "m2hf.fuse.features m2hf.fuse.scores "
    "m2hf.fuse.model m2hf.fuse.evaluation",
    "m2hf.fuse.search.web": "m2hf m2hf.fuse.features m2hf.fuse.search",
}

# library -> the parts that may import it; what is not listed here is light, and anybody's
LIBRARIES: dict[str, str] = {
    "torch": "m2hf.extract m2hf.extract.inference m2hf.extract.networks m2hf.extract.speech "
    "m2hf.pipelines m2hf.pipelines.cluster m2hf.fuse m2hf.fuse.bundle m2hf.fuse.model "
    "m2hf.fuse.evaluation m2hf.fuse.training m2hf.fuse.search",
    "torchvision": "m2hf.extract.networks",
    "safetensors": "m2hf.extract.networks m2hf.fuse.model m2hf.fuse.training",
    "bm25s": "m2hf.fuse.model",
    "open_clip": "m2hf.extract.networks",
    "transformers": "m2hf.extract.networks",
    "sentence_transformers": "m2hf.extract.networks",
    "timm": "m2hf.extract.networks",
    "easyocr": "m2hf.extract.networks",
    "rapidocr_onnxruntime": "m2hf.extract.networks",
    "whisper": "m2hf.extract.speech",
    "faster_whisper": "m2hf.extract.speech",
    "ctranslate2": "m2hf.extract.speech",
    "librosa": "m2hf.extract m2hf.extract.networks m2hf.pipelines.timeline",
    "cv2": "m2hf.extract m2hf.extract.media",
    "PIL": "m2hf.data_manifests.toybox m2hf.extract m2hf.extract.networks m2hf.pipelines.timeline",
    "ffmpeg": "m2hf.extract.media",
    "imageio_ffmpeg": "m2hf",
    "espeakng_loader": "m2hf.data_manifests.toybox",
    "dask": "m2hf.pipelines.cluster",
    "distributed": "m2hf.pipelines.cluster",
    "dask_jobqueue": "m2hf.pipelines.deploy",
    "threadpoolctl": "m2hf.pipelines",
    "starlette": "m2hf.fuse.search.web",
    "uvicorn": "m2hf.fuse.search.web",
    "jinja2": "m2hf m2hf.fuse.report",
    "matplotlib": "m2hf.fuse m2hf.pipelines.timeline",
    "pyarrow": "m2hf.exchange",
    "typer": "m2hf.cli",
    "rich": "m2hf.cli",
}


def part_of(module: str) -> str:
    """The part that a module, or a name imported from it, belongs to: the longest prefix."""
    return max((p for p in MAY_IMPORT if f"{module}.".startswith(f"{p}.")), key=len)


def violations(module: str, code: str) -> list[str]:
    """The imports in `code` that the walls forbid in `module`."""
    part = part_of(module)
    found = []
    for name in imports(code):
        library = name.split(".")[0]
        if library == "m2hf":
            if part_of(name) not in {part, *MAY_IMPORT[part].split()}:
                found.append(name)
        elif part not in LIBRARIES.get(library, part).split():
            found.append(name)
    return found


@pytest.mark.parametrize("module", SOURCES)
def test_a_file_keeps_to_the_walls_of_its_folder(module: str) -> None:
    code = SOURCES[module].read_text(encoding="utf-8")
    assert not violations(module, code)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_forbidden_import_is_found(part: str) -> None:
    allowed = {part, *MAY_IMPORT[part].split()}
    for other in MAY_IMPORT:
        code = f"def f():\n    from {other} import anything"
        assert violations(f"{part}.x", code) == ([] if other in allowed else [f"{other}.anything"])
    for library, parts in LIBRARIES.items():
        code = f"import {library}.sub"
        expected = [] if part in parts.split() else [f"{library}.sub"]
        assert violations(f"{part}.x", code) == expected


def test_every_folder_is_a_part_and_parts_run_one_way() -> None:
    packages = {module for module, path in SOURCES.items() if path.name == "__init__.py"}
    assert packages <= set(MAY_IMPORT)
    assert set(MAY_IMPORT) <= set(SOURCES)
    arrows = {part: set(others.split()) for part, others in MAY_IMPORT.items()}
    assert not set().union(*arrows.values()) - set(arrows)
    tuple(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError
    assert not {p for parts in LIBRARIES.values() for p in parts.split()} - set(arrows)


def test_the_walls_allow_nothing_that_nothing_uses() -> None:
    used = {
        (part_of(module), part_of(name) if name.startswith("m2hf.") else name.split(".")[0])
        for module, path in SOURCES.items()
        for name in imports(path.read_text(encoding="utf-8"))
    }
    allowed = {(part, other) for part, others in MAY_IMPORT.items() for other in others.split()}
    allowed |= {(part, library) for library, parts in LIBRARIES.items() for part in parts.split()}
    assert sorted(allowed - used) == []


def test_no_import_circle_between_files() -> None:
    graph = {}
    for module, path in SOURCES.items():
        named = imports(path.read_text(encoding="utf-8"))
        targets = {n if n in SOURCES else n.rpartition(".")[0] for n in named if "." in n}
        graph[module] = {t for t in targets if t in SOURCES and t != module}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
