"""Manifests: what is written is read, and what contradicts itself is one clear line."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated, mutated_json, refused_in_one_line

from m2hf.data_manifests.folder import from_folder
from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import Card, Manifest, Row, captions_of


def manifest(*rows: Row) -> Manifest:
    return Manifest(Card(name="set", protocol="one_caption"), rows)


def row(name: str = "a", **more: object) -> Row:
    return Row.model_validate({"id": name, "path": f"{name}.mp4", "split": "test", **more})


def test_round_trip(tmp_path: Path) -> None:
    rows = (row("ä/1", captions=("one", "two"), start=1.5, end=3.0), row("b", sha256="0" * 64))
    made = manifest(*rows)
    made.save(tmp_path)
    read = Manifest.load(tmp_path)
    assert read == made
    assert read.digest == made.digest
    assert [c.id for c in captions_of(read.rows)] == ["ä/1#0", "ä/1#1"]


def test_the_digest_follows_content_and_not_order() -> None:
    assert manifest(row("a"), row("b")).digest == manifest(row("b"), row("a")).digest
    assert manifest(row("a")).digest != manifest(row("a", captions=("x",))).digest


def test_a_duplicate_id_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"manifest set: id 'a' occurs more than once"):
        manifest(row("a"), row("b"), row("a"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"rows.jsonl, line 2: not JSON"),
        ('{"id": "b", "path": "b", "split": "tset"}', r"line 2: split: .*'train'"),
        ('{"id": "b", "path": "/b", "split": "test"}', r"line 2: path: .*media root"),
        ('{"id": "b", "path": "../b", "split": "test"}', r"line 2: path: .*media root"),
        ('{"id": "b\\n", "path": "b", "split": "test"}', r"line 2: id: .*printable"),
        ('{"id": "b", "path": "b", "split": "test", "end": 1, "start": 2}', r"end must be after"),
        ('{"id": "b", "path": "b", "split": "test", "capt": []}', r"line 2: capt: Extra"),
        ("[1]", r"line 2: expected a JSON object, got \[1\]"),
        ('{"id": "b", "id": "b", "path": "b", "split": "test"}', r"line 2: .*'id' occurs twice"),
        ('{"id": "b", "path": "b", "split": "test", "start": "1.5"}', r"line 2: start: .*number"),
        ('{"id": "b", "path": "b", "split": "test", "start": true}', r"line 2: start: .*number"),
        ('{"id": "b", "path": "b", "split": "test", "end": 1e999}', r"line 2: .*beyond the range"),
        ('{"id": "b", "path": "b", "split": "test", "end": 1e10}', r"line 2: end: .*less than"),
        ('{"id": "b", "path": "b", "split": "test", "captions": ["\\u0000"]}', r"line 2: .*NUL"),
        ("[" * 100_000, r"line 2: .*nested too deep"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    manifest(row("a")).save(tmp_path)
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(ManifestError, match=message):
        Manifest.load(tmp_path)


def test_a_missing_manifest_and_a_bad_card_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no card.toml there; make one with `m2hf manifest"):
        Manifest.load(tmp_path)
    manifest(row("a")).save(tmp_path)
    card = tmp_path / "card.toml"
    card.write_text(card.read_text().replace("protocol", "protocl"), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"card.toml: no key 'protocol', which is required"):
        Manifest.load(tmp_path)


def test_check_names_every_difference(tmp_path: Path) -> None:
    splits = {"train": {"videos": 1, "captions": 1}, "test": {"videos": 1, "captions": 2}}
    card = Card.model_validate({"name": "set", "protocol": "one_caption", "splits": splits})
    found = Manifest(card, (row("a", captions=("x", "y")),)).check(tmp_path)
    assert found == [
        "split train: card declares 1 videos and 1 captions, rows have 0 and 0",
        "protocol one_caption: 1 test videos have more than one caption: a",
        "a: no file a.mp4",
    ]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.mp4", "b.MKV", "more/c d.webm", "notes.txt", ".hidden.mp4"):
        (folder / name).write_bytes(b"x")
    return folder


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "captions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_from_folder(tmp_path: Path, videos: Path) -> None:
    path = csv(tmp_path, 'id,caption,split\na,"one, two",train\na,three,train\nb,four,test\n')
    built = from_folder(videos, path, "mine")
    by_id = built.manifest.by_id
    assert {i: (r.path, r.split, r.captions) for i, r in by_id.items()} == {
        "a": ("a.mp4", "train", ("one, two", "three")),
        "b": ("b.MKV", "test", ("four",)),
        "c d": ("more/c d.webm", "test", ()),
    }
    assert built.without_captions == ("c d",)
    assert built.manifest.check() == []
    assert built.manifest.card.protocol == "one_caption"


def test_from_folder_without_splits_depends_on_the_ids_alone(tmp_path: Path, videos: Path) -> None:
    first = from_folder(videos, csv(tmp_path, "id,caption\na,x\nb,y\n"), "m")
    assert first.split_by_hash
    again = from_folder(videos, csv(tmp_path, "id,caption\nb,y\na,x\n"), "m")
    assert [row.split for row in again.manifest.rows] == [row.split for row in first.manifest.rows]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,caption\na,x\nq,y\n", r"captions.csv, line 3: a caption for id 'q', but no video"),
        ("id,text\na,x\n", r"header is id,text, expected id,caption"),
        ("", r"header is , expected id,caption"),
        ("id,caption\na,\n", r"line 2: the caption of 'a' is empty"),
        ("id,caption,split\na,x,dev\n", r"line 2: split 'dev'; expected train, val, test"),
        ("id,caption,split\na,x,val\na,y,test\n", r"line 3: 'a' is in split val and in test"),
    ],
)
def test_a_bad_caption_file_is_named_by_its_line(
    tmp_path: Path, videos: Path, text: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        from_folder(videos, csv(tmp_path, text), "m")


def test_two_files_of_one_id_and_missing_paths(tmp_path: Path, videos: Path) -> None:
    captions = csv(tmp_path, "id,caption\na,x\n")
    with pytest.raises(UsageError, match="no such folder"):
        from_folder(tmp_path / "none", captions, "m")
    with pytest.raises(UsageError, match="no such file"):
        from_folder(videos, tmp_path / "none.csv", "m")
    (videos / "more" / "a.avi").write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"id 'a' is the name of two files: a.mp4 and more/a"):
        from_folder(videos, captions, "m")


def test_the_rows_file_has_one_row_a_line(tmp_path: Path) -> None:
    manifest(row("a"), row("b")).save(tmp_path)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


def test_bytes_that_are_not_utf8_are_named_by_their_line(tmp_path: Path) -> None:
    manifest(row("a")).save(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(ManifestError, match=r"rows.jsonl, line 2: not UTF-8"):
        Manifest.load(tmp_path)
    (tmp_path / "card.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ManifestError, match=r"card.toml: not UTF-8 \(byte 8\)"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("videos = 1", 'videos = "1"', r"card.toml: splits.test.videos = '1': .*integer"),
        ("videos = 1", "videos = -1", r"card.toml: splits.test.videos = -1: .*greater than"),
        ('name = "set"', "name = 1", r"card.toml: name = 1: .*string"),
        ('name = "set"', 'name = "set"\nname = "set"', r"card.toml: not TOML: Cannot overwrite"),
        ('name = "set"', 'name = "a\\u0000b"', r"card.toml: .*NUL"),
        ('name = "set"', "name = " + "[" * 100_000, r"card.toml: .*nested too deep"),
    ],
)
def test_a_malformed_card_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    manifest(row("a")).save(tmp_path)
    lines = ('name = "set"', 'protocol = "one_caption"', "[splits.test]", "videos = 1")
    text = "\n".join((*lines, "captions = 1\n"))
    (tmp_path / "card.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ManifestError, match=message) as caught:
        Manifest.load(tmp_path)
    assert "\n" not in str(caught.value)


ROW = {
    "id": "a", "path": "a.mp4", "split": "test", "captions": ["x", "y"], "start": 1.0, "end": 2.5,
    "sha256": "0" * 64,
}  # fmt: skip
CARD = {
    "name": "set", "version": "1", "protocol": "one_caption", "benchmark": "MSVD",
    "flags": {"text": ["from scripts"]}, "splits": {"test": {"videos": 1, "captions": 2}},
}  # fmt: skip


@given(mutated_json(ROW))
@settings(deadline=None, max_examples=150)
def test_any_damage_to_a_row_is_an_error_of_one_line_or_a_manifest(data: bytes) -> None:
    _load_or_refuse(b"", data)


@given(mutated(CARD), st.booleans())
@settings(deadline=None, max_examples=150)
def test_any_damage_to_a_card_is_an_error_of_one_line_or_a_manifest(card: Any, cut: bool) -> None:
    try:
        data = tomli_w.dumps(card).encode()
    except (TypeError, AttributeError, ValueError):  # what TOML can't hold, such as null
        return
    _load_or_refuse(data[: len(data) // 2] if cut else data, json.dumps(ROW).encode())


def _load_or_refuse(card: bytes, rows: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "card.toml").write_bytes(card or tomli_w.dumps(CARD).encode())
        (Path(folder) / "rows.jsonl").write_bytes(rows)
        with refused_in_one_line(ManifestError):
            read = Manifest.load(Path(folder))
            read.save(Path(folder) / "again")
            assert Manifest.load(Path(folder) / "again") == read


@pytest.mark.parametrize("name", ["card.toml", "rows.jsonl"])
def test_a_file_without_read_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Monkeypatched, since root can read everything."""
    manifest(row()).save(tmp_path)
    really = Path.open

    def read(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", read)
    with pytest.raises(UsageError, match=f"^permission denied: .*{name}: this user may not read"):
        Manifest.load(tmp_path)


def test_a_manifest_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from m2hf.manifest import Card, Manifest, Row\n"
        "row = Row(id='caf\\xe9', path='a.mp4', split='train', captions=('ein Gru\\xdf',))\n"
        "Manifest(Card(name='one', protocol='one_caption'), [row]).save(Path(sys.argv[1]))\n"
    )
    ascii_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, env=os.environ | ascii_locale, check=True)
    assert [row.id for row in Manifest.load(tmp_path).rows] == ["café"]
