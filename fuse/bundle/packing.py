"""Pack a table with what its numbers were made from, each file found by its digest."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2hf.errors import UsageError
from m2hf.fuse.bundle import index
from m2hf.fuse.bundle.archive import write_archive
from m2hf.fuse.bundle.environment import environment
from m2hf.fuse.bundle.index import ChainRun, Index, Member
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.tables.records import json_text
from m2hf.fuse.tables.written import read_document
from m2hf.keys import safe_name, sha256_file, sha256_hex
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest

_SHARD = re.compile(r"\d+-of-\d+\.h5")  # no similarity file, and many of them


def pack(table: Path, folders: Sequence[Path], out: Path) -> Index:
    """Write the bundle of `table` to `out`; folders: where to look, at any depth.

    Raises UsageError for a table that can't be traced, and naming the first file that is in none
    of the folders.
    """
    _, document = read_document(table)
    runs = index.runs_of(table, document)
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--from {folder}: no such folder")
    search = _Search(folders)
    members: dict[str, Path | bytes] = {f"table{table.suffix}": table}
    for run in runs:
        for name, content in search.run(run):
            if members.setdefault(name, content) != content:
                raise UsageError(
                    f"{name}: runs of the table read two different files of that name; score them "
                    "again over one store"
                )
    if wanted := index.kinds_digest(document):
        found = search.by_digest(("*.csv",), wanted, "the file of --kinds")
        members[index.KINDS] = found
    about = Index.model_validate(
        {
            "table": f"table{table.suffix}",
            "environment": environment(),
            "members": {name: _member(content) for name, content in sorted(members.items())},
        }
    )
    write_archive(out, {**members, index.NAME: about.text()})
    return about


def _member(content: Path | bytes) -> Member:
    if isinstance(content, bytes):
        return Member(size=len(content), sha256=sha256_hex(content))
    return Member(size=content.stat().st_size, sha256=sha256_file(content))


def _manifest_digest(folder: Path) -> str:
    """ "" for a folder whose card is of something else."""
    try:
        return Manifest.load(folder).digest
    except UsageError:
        return ""


@dataclass(frozen=True)
class _Search:
    """Finds files by digest in folders, at any depth."""

    folders: Sequence[Path]

    def run(self, run: ChainRun) -> Iterator[tuple[str, Path | bytes]]:
        """All that a run was scored from, and its similarity file, by name in the bundle."""
        chain, own = run.chain, RunFolder(Path(run.folder))
        checkpoint, similarity = own.checkpoint.name, own.similarity.name
        of = f"of {run}"
        yield (
            f"{run.folder}/{checkpoint}",
            self.by_digest((checkpoint,), chain["checkpoint"], f"the checkpoint {of}"),
        )
        yield (
            f"{run.folder}/{similarity}",
            self.by_digest((similarity, "*.h5"), chain["similarity"], f"the similarity file {of}"),
        )
        yield f"{run.folder}/{own.config.name}", json_text(chain["config"]).encode()
        folder = self._first(
            ("card.toml",), lambda card: _manifest_digest(card.parent) == chain["manifest"],
            f"the manifest {of}", chain["manifest"],
        ).parent  # fmt: skip
        for name in ("card.toml", "rows.jsonl"):
            yield f"{run.manifest}/{name}", folder / name
        for role, stream in chain["streams"].items():
            name, dataset = stream["stream"], safe_name(chain["dataset"])

            def holds(record: Path, name: str = name, digest: str = stream["shards"]) -> bool:
                layout = StoreLayout(record.parent.parent, chain["dataset"])
                return layout.folder == record.parent and layout.digest(name) == digest

            record = self._first(
                ("store.json",), holds, f"stream {role} ({name}) {of}", stream["shards"]
            )
            layout = StoreLayout(record.parent.parent, chain["dataset"])
            yield f"store/{dataset}/{record.name}", record
            for shard in layout.shards(name):
                yield f"store/{dataset}/{name}/{shard.name}", shard

    def by_digest(self, patterns: Sequence[str], sha256: str, what: str) -> Path:
        """The first file of these names with this digest; raises UsageError for none."""
        return self._first(patterns, lambda path: sha256_file(path) == sha256, what, sha256)

    def _first(
        self, patterns: Sequence[str], right: Callable[[Path], bool], what: str, digest: str
    ) -> Path:
        for pattern in patterns:
            for folder in self.folders:
                for path in sorted(folder.rglob(pattern)):
                    if path.is_file() and not _SHARD.fullmatch(path.name) and right(path):
                        return path
        shown = ", ".join(map(str, self.folders))
        raise UsageError(
            f"{what} (sha256 {digest}) is not below {shown}; give its folder, or one above it: "
            "--from DIR"
        )
