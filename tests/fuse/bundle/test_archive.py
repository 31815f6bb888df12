"""Archives of equal files have equal bytes; what `write_archive` never wrote is not read."""

import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.errors import SchemaError, UsageError
from m2hf.fuse.bundle.archive import Archive, write_archive
from m2hf.keys import sha256_hex


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"shard")
    members = {"store/x@1/0-of-1.h5": tmp_path / "a", "bundle.json": b"{}"}
    write_archive(tmp_path / "one.zip", members)
    (tmp_path / "b").write_bytes(b"shard")
    write_archive(tmp_path / "two.zip", dict(reversed(members.items())) | {
        "store/x@1/0-of-1.h5": tmp_path / "b"
    })  # fmt: skip
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with Archive.open(tmp_path / "one.zip") as archive:
        assert archive.sizes == {"bundle.json": 2, "store/x@1/0-of-1.h5": 5}
        assert archive.read("bundle.json", 2) == b"{}"
        out = tmp_path / "out" / "shard"
        assert archive.extract("store/x@1/0-of-1.h5", out) == sha256_hex(b"shard")
        assert out.read_bytes() == b"shard"
        with pytest.raises(SchemaError, match="2 bytes, at most 1"):
            archive.read("bundle.json", 1)
        with pytest.raises(SchemaError, match="no member x"):
            archive.read("x", 1)


def written(path: Path, change: Callable[[zipfile.ZipFile], None]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good", b"content")
        change(archive)
    return path


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    about = zipfile.ZipInfo(name)
    about.create_system, about.external_attr = 3, mode << 16
    return about


OUTSIDE = ["../out", "/etc/passwd", "a/../../b", "a\\b", "C:/x", "a//b", "folder/", "./a"]


@pytest.mark.parametrize("name", [*OUTSIDE, "a\nb", "é", "a\0b"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    plain = b"x" * len(name.encode())
    path = written(tmp_path / "x.zip", lambda archive: archive.writestr(plain.decode(), b""))
    path.write_bytes(path.read_bytes().replace(plain, name.encode()))
    with (
        pytest.raises(SchemaError, match="relative path of plain characters"),
        Archive.open(path),
    ):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["x.zip"]


def test_links_compression_doubles_and_overlaps_are_refused(tmp_path: Path) -> None:
    def link(archive: zipfile.ZipFile) -> None:
        archive.writestr(entry("link", stat.S_IFLNK | 0o777), b"/etc/passwd")

    def bomb(archive: zipfile.ZipFile) -> None:
        archive.writestr("bomb", bytes(1 << 20), zipfile.ZIP_DEFLATED)

    def twice(archive: zipfile.ZipFile) -> None:
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("good", b"other")

    for number, (change, said) in enumerate(
        ((link, "a link"), (bomb, "is compressed"), (twice, "'good' occurs twice"))
    ):
        path = written(tmp_path / f"{number}.zip", change)
        with pytest.raises(SchemaError, match=said), Archive.open(path):
            pass

    path = written(tmp_path / "big.zip", lambda archive: archive.writestr("big", b"123"))
    raw = path.read_bytes()
    place = raw.rindex(b"PK\x01\x02")  # of the last central entry: both sizes
    huge = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(raw[: place + 20] + huge + raw[place + 28 :])
    with pytest.raises(SchemaError, match="they overlap"), Archive.open(path):
        pass


def test_no_file_and_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"), Archive.open(tmp_path / "x"):
        pass
    (tmp_path / "x").write_bytes(b"text")
    with pytest.raises(SchemaError, match="not a bundle of m2hf"), Archive.open(tmp_path / "x"):
        pass


@given(st.data())
def test_a_flipped_byte_is_an_error_or_is_seen(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.zip")
        write_archive(path, {"a": b"first", "b/c": b"second"})
        raw = bytearray(path.read_bytes())
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
        good = {"a": sha256_hex(b"first"), "b/c": sha256_hex(b"second")}
        with suppress(SchemaError), Archive.open(path) as archive:
            for name in archive.sizes:
                assert archive.extract(name, Path(folder, "out", name)) in ("", good.get(name))
