"""What reads tables needs no torch; what fuses needs nothing that extracts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from m2hf.fuse.evaluation.evaluate import evaluate

EXTRACTION = [
    "cv2", "dask", "distributed", "easyocr", "ffmpeg", "imageio_ffmpeg", "librosa", "open_clip",
    "torchvision", "whisper", "m2hf.extract", "m2hf.pipelines",
]  # fmt: skip

BLOCK = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == b or name.startswith(b + ".") for b in {blocked!r}):
            raise ImportError(f"{{name}} is blocked in this test")

sys.meta_path.insert(0, Blocker())
"""


def python(code: str, blocked: list[str], *args: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_tables_and_traces_need_no_torch(corpus: Any, run: Any, tmp_path: Path) -> None:
    path = evaluate(corpus.manifest, corpus.store, run.folder)
    code = """
from pathlib import Path
from m2hf.cli.tables import tables
from m2hf.cli.trace import trace
similarity, folder, store = map(Path, sys.argv[1:])
for suffix in (".csv", ".tex", ".html", ".json", ".md"):
    tables([str(similarity)], out=folder / f"t{suffix}", dsl=[20.0])
tables([str(similarity)])
trace(folder / "t.md", "late_fusion", run=[similarity.parent], store=store)
assert "torch" not in sys.modules
"""
    printed = python(code, [*EXTRACTION, "torch", "safetensors"], path, tmp_path, corpus.store)
    assert "late_fusion" in printed
    assert "(matches)" in printed
    assert "untrained" in printed


def test_fusion_needs_no_extraction_package(corpus: Any, tmp_path: Path) -> None:
    corpus.manifest.save(tmp_path / "manifest")
    code = """
from pathlib import Path
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest
folder, store = map(Path, sys.argv[1:])
manifest = Manifest.load(folder / "manifest")
config = FusionConfig(device="cpu", model={"width": 16, "heads": 2}, train={"epochs": 1})
train(manifest, store, folder / "run", config)
print(evaluate(manifest, store, folder / "run").name)
"""
    assert python(code, EXTRACTION, tmp_path, corpus.store) == "similarity.h5\n"
