"""A manifest with media for tests of extraction, and the command-line options that name them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkout import HELPERS

from m2hf.manifest import Card, Manifest, Row

Command = Callable[..., "subprocess.CompletedProcess[str]"]
HOOKS = {"PYTHONPATH": str(HELPERS / "startup")}  # ledger_hooks.py in all processes
GATE, POISON = "M2HF_TEST_GATE", "M2HF_TEST_POISON"  # variables that it reads
FAULT, CLOCK = "M2HF_TEST_FAULT", "M2HF_TEST_CLOCK"
COUNTS = {"ok": 0, "empty": 0, "failed": 0, "quarantined": 0, "missing": 0}


class LedgerFiles:
    """The ledger files of a store, one per process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lines(self, pid: int = 0) -> int:
        """Number of lines by process `pid`, or by all."""
        pattern = f"*-{pid}-*.jsonl" if pid else "*.jsonl"
        return sum(p.read_bytes().count(b"\n") for p in self._folder.glob(pattern))

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self._folder.glob("*.jsonl"))

    def writers(self) -> int:
        return len(self.files())

    def hosts(self) -> set[str]:
        return {p.name.split("-", 1)[1].rsplit("-", 2)[0] for p in self.files()}


class ExtractionCorpus:
    """A manifest with media, and stores that tests extract to."""

    def __init__(self, folder: Path, files: dict[str, Path], tiny: tuple[str, ...]) -> None:
        self.folder, self.tiny = folder, (*tiny, "--set", "extract.buckets=4")
        rows = tuple(
            Row(id=name, path=path.name, split="test", captions=(f"clip {name}", "another"))
            for name, path in files.items()
        )
        self.media = next(iter(files.values())).parent
        card = Card(name="corpus", protocol="multi_caption", flags={"logmel": ("a flag",)})
        Manifest(card, rows).save(folder / "manifest")

    def options(self, store: str, only: str = "clip,caption,logmel,flow") -> list[str]:
        paths = ["--manifest", self.folder / "manifest", "--media", self.media]
        return [*map(str, paths), "--store", str(self.folder / store), "--only", only, *self.tiny]

    def shards(self, store: str) -> dict[str, bytes]:
        """Every file of a store but the ledger and the recipe that it was begun with, by path."""
        root = self.folder / store
        files = (p for p in root.rglob("*") if p.is_file() and "ledger" not in p.parts)
        files = (p for p in files if p.name != "recipe.toml")
        return {str(p.relative_to(root)): p.read_bytes() for p in files}

    def ledger(self, store: str) -> LedgerFiles:
        return LedgerFiles(self.folder / store / "corpus" / "ledger")

    def status(self, m2hf: Command, store: str, **more: Any) -> dict[str, Any]:
        done = m2hf("status", *self.options(store, **more), "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found
