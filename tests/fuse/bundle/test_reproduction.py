"""A bundle gives its table again elsewhere, and what was changed in it is named."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from m2hf.errors import SchemaError, UsageError
from m2hf.fuse.bundle import reproduction as module
from m2hf.fuse.bundle.packing import pack
from m2hf.fuse.bundle.reproduction import Reproduction
from m2hf.fuse.bundle.side_by_side import side_by_side
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.tables.formats import FORMATS, render
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.post_processing import PostProcessing, Ranking
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.training.run import train
from m2hf.keys import sha256_hex
from m2hf.manifest import captions_of

SUFFIXES = [suffix for suffix in FORMATS if suffix not in (".csv", ".tex")]


@dataclass(frozen=True)
class Packed:
    """A bundle, the folders that its files are in, and the tables of the same runs by suffix."""

    bundle: Path
    folders: list[Path]
    tables: dict[str, Path]


@pytest.fixture(scope="module")
def packed(corpus: Any, short: FusionConfig, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Two seeds of one model and another late rule, with kinds, baselines and a querybank."""
    folder = tmp_path_factory.mktemp("packed")
    corpus.manifest.save(folder / "manifest")
    files, labels = [], {}
    few = short.only("visual", "audio_visual")
    for seed in (0, 1):
        config = few.model_copy(update={"train": few.train.model_copy(update={"seed": seed})})
        run = folder / "runs" / f"seed{seed}"
        train(corpus.manifest, corpus.store, run, config)
        banked = config.model_copy(update={"eval": config.eval.model_copy(update={"bank": 20})})
        files.append(evaluate(corpus.manifest, corpus.store, run, banked, with_baselines=True))
        labels[files[-1]] = "two seeds"
    other = few.model_copy(update={"late": short.late.model_copy(update={"rule": "max"})})
    files.append(
        evaluate(corpus.manifest, corpus.store, run, other, out=folder / "runs" / "max.h5")
    )
    queries = [c.id for c in captions_of(corpus.manifest.split("test"))]
    kinds = folder / "kinds.csv"
    lines = [f"{query},{'odd' if n % 2 else 'even'}" for n, query in enumerate(queries)]
    kinds.write_text("\n".join(["id,kind", *lines]), encoding="utf-8")
    made = SimilarityTable(PostProcessing(querybank=5.0), Ranking(), QueryKinds.read(kinds))
    tables = {}
    for suffix in SUFFIXES:
        tables[suffix] = folder / f"table{suffix}"
        tables[suffix].write_text(render(made.build(files, labels), suffix), encoding="utf-8")
    bundle = folder / "bundle.zip"
    folders = [folder, corpus.store]
    pack(tables[".md"], folders, bundle)
    return Packed(bundle, folders, tables)


def changed(
    bundle: Path, out: Path, name: str, change: Callable[[bytes], bytes], hidden: bool = True
) -> Path:
    """The bundle with one file changed; hidden: the digest in its index, too."""
    with zipfile.ZipFile(bundle) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    (name,) = [each for each in members if re.fullmatch(name, each)]
    before = members[name]
    members[name] = change(before)
    assert members[name] != before
    if hidden:
        about = json.loads(members["bundle.json"])
        about["members"][name] = {
            "size": len(members[name]), "sha256": sha256_hex(members[name]),
        }  # fmt: skip
        members["bundle.json"] = json.dumps(about).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return out


def reproduced(bundle: Path, folder: Path) -> tuple[bool, str]:
    said: list[str] = []
    unpacked = Reproduction.unpack(bundle, folder, said.append)
    return unpacked is not None and unpacked.run(), "\n".join(said)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_reproduced_from_any_format(packed: Packed, tmp_path: Path, suffix: str) -> None:
    bundle = tmp_path / "bundle.zip"
    pack(packed.tables[suffix], packed.folders, bundle)
    right, said = reproduced(bundle, tmp_path / "out")
    assert right, said
    assert said.count("scored again, equal bytes: ") == 3
    assert "libraries and processor: those of the bundle" in said
    assert "seen together: late_fusion + querybank 5, T2V" in said
    assert "two seeds: late_fusion (kind odd), T2V" in said
    assert "DIFFERS" not in said


def test_the_command_needs_nothing_but_the_file(
    packed: Packed, tmp_path: Path, corpus: Any
) -> None:
    again = tmp_path / "again.zip"
    m2hf = str(Path(sys.executable).parent / "m2hf")
    table = packed.tables[".md"]
    command = [
        m2hf,
        "bundle",
        table,
        "--out",
        again,
        "--from",
        table.parent,
        "--from",
        corpus.store,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == packed.bundle.read_bytes()

    def reproduce(bundle: Path) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "home").mkdir(exist_ok=True)
        return subprocess.run(
            [m2hf, "reproduce", str(bundle)],
            cwd=tmp_path / "home", env={**os.environ, "HOME": str(tmp_path / "home")},
            capture_output=True, text=True,
        )  # fmt: skip

    assert reproduce(again).returncode == 0
    shard = changed(
        again, tmp_path / "s.zip", "store/synthetic/audio@.*/0-of-4.h5", last_byte, hidden=False
    )
    done = reproduce(shard)
    assert done.returncode == 3
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("DIFFERS")]
    assert re.search(r"store/synthetic/audio@\w+/0-of-4.h5: its bytes differ", line)
    assert done.stdout.endswith("NOT REPRODUCED\n")


def last_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_a_shard_byte_is_found_though_its_digest_was_changed_too(
    packed: Packed, tmp_path: Path
) -> None:
    shard = "store/synthetic/audio@.*/0-of-4.h5"
    right, said = reproduced(
        changed(packed.bundle, tmp_path / "b.zip", shard, last_byte), tmp_path / "out"
    )
    assert not right
    assert "audio is not the one that the table names" in said


def test_a_digit_of_the_table_is_found(packed: Packed, tmp_path: Path) -> None:
    text = packed.tables[".md"].read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| late_fusion "))
    cell = line.split("|")[2].strip()
    digit = "1" if cell[0] != "1" else "2"
    other = line.replace(cell, digit + cell[1:], 1)

    def change(content: bytes) -> bytes:
        return content.replace(line.encode(), other.encode(), 1)

    for hidden in (True, False):
        bundle = changed(packed.bundle, tmp_path / "b.zip", "table.md", change, hidden)
        right, said = reproduced(bundle, tmp_path / f"out{hidden}")
        assert not right
        wanted = f"late_fusion: T2V R@1: the table prints {digit}{cell[1:]}, the files give {cell}"
        assert wanted in said
        assert f"! {cell}" in said
        assert ("table.md: its bytes differ" in said) == (not hidden)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("runs/[^/]*/config.json", b'"max"', b'"sum"', 'late.rule = "sum", and "max" in the'),
        ("table.md", b'"rule":"max"', b'"rule":"sum"', 'late.rule = "max", and "sum" in the'),
        ("kinds.csv", b"odd", b"even", "kinds.csv: not the kinds"),
        ("manifests/.*/rows.jsonl", b'"first"', b'"other"', "manifest is not the one"),
    ],
)
def test_a_config_value_and_other_text_is_found(
    packed: Packed, tmp_path: Path, name: str, old: bytes, new: bytes, said: str
) -> None:
    with zipfile.ZipFile(packed.bundle) as archive:
        found = [n for n in archive.namelist() if re.fullmatch(name, n) and old in archive.read(n)]
    bundle = changed(
        packed.bundle, tmp_path / "b.zip", re.escape(found[0]), lambda c: c.replace(old, new, 1)
    )
    right, text = reproduced(bundle, tmp_path / "out")
    assert not right
    assert said in text


def test_other_libraries_are_named_and_get_a_tolerance(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = module.environment()
    monkeypatch.setattr(module, "environment", lambda: {**here, "torch": "9.9"})
    right, said = reproduced(packed.bundle, tmp_path)
    assert right
    assert "libraries and processor: torch " in said
    assert "9.9 here" in said
    assert "each equal, or within the tolerance of 2 queries" in said


@pytest.mark.parametrize(
    ("column", "printed", "again", "exact", "right"),
    [
        ("R@1", "50.0 ± 1.0", "50.0 ± 1.0", True, True),
        ("R@1", "50.0", "50.1", True, False),
        ("R@1", "50.0", "52.0", False, True),
        ("R@1", "50.0", "52.1", False, False),
        ("95 %", "40.0 to 60.0", "44.0 to 60.0", False, True),
        ("95 %", "40.0 to 60.0", "40.0 to 64.1", False, False),
        ("RSum", "200.0", "206.0", False, True),
        ("MdR", "2.0", "3.1", False, False),
        ("MnR", "20.00", "20.20", False, True),
        ("MnR", "20.00", "20.30", False, False),
        ("R@1", "50.0", "", False, False),
        ("queries", "100", "101", False, False),
    ],
)
def test_the_tolerance(column: str, printed: str, again: str, exact: bool, right: bool) -> None:
    said: list[str] = []
    rows = [("row", 100, {column: printed}, {column: again})]
    assert side_by_side(rows, exact, said.append) == right
    assert said[-1] == ("1 cells, 1 differ (marked !)" if not right else said[-1])


def test_what_can_not_be_packed_is_one_line(packed: Packed, tmp_path: Path) -> None:
    table = packed.tables[".md"]
    with pytest.raises(UsageError, match=r"stream audio \(audio@.*is not below .*--from DIR"):
        pack(table, packed.folders[:1], tmp_path / "b.zip")
    with pytest.raises(UsageError, match=r"the checkpoint of two seeds.*is not below"):
        pack(table, packed.folders[1:], tmp_path / "b.zip")
    with pytest.raises(UsageError, match="no such folder"):
        pack(table, [tmp_path / "none"], tmp_path / "b.zip")
    csv = tmp_path / "table.csv"
    similarity = table.parent / "runs" / "seed0" / "similarity.h5"
    csv.write_text(render(SimilarityTable().build([similarity]), ".csv"), encoding="utf-8")
    with pytest.raises(UsageError, match="a CSV does not say what it was made from"):
        pack(csv, packed.folders, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_a_hostile_chain_names_no_file_outside(packed: Packed, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed.bundle) as archive:
        text = archive.read("table.md").decode()
    digest = re.search(r'"similarity":"([0-9a-f]{64})"', text)
    assert digest is not None
    bundle = changed(
        packed.bundle, tmp_path / "b.zip", "table.md",
        lambda c: c.replace(digest[1].encode(), b"../../../../tmp/x".ljust(64, b"0")),
    )  # fmt: skip
    with pytest.raises(SchemaError, match="the chain of its numbers is damaged"):
        reproduced(bundle, tmp_path / "out")
