"""Shards: what goes in comes out, equal input gives equal bytes, damage is noticed."""

import errno
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkout import DATA
from hdf5_mutations import unsealed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m2hf.errors import ResourceError, SchemaError, ShardError
from m2hf.features import Features, Status
from m2hf.shard import Shard, ShardItem, write_shard
from m2hf.shard_header import ShardHeader


def header() -> ShardHeader:
    return ShardHeader(
        dataset="set",
        extractor="clip",
        revision=1,
        fingerprint="f" * 64,
        bucket=0,
        buckets=1,
        manifest="m" * 64,
        config={"extractor": "clip", "config": {"fps": 1.0}},
        weights={"model": "w" * 64},
        environment={"numpy": "2"},
        columns=["a", "b", "c"],
        flags=["untrained"],
    )


def features(rows: int, texts: bool = False, width: int = 3) -> Features:
    if not rows:
        return Features.empty("no video stream", width, texts=texts)
    start = np.arange(rows, dtype=np.float64)
    return Features(
        np.arange(rows * width, dtype=np.float32).reshape(rows, width),
        start,
        start + 1,
        texts=tuple(f"wörd {i}" for i in range(rows)) if texts else None,
        confidence=np.full(rows, 0.5) if texts else None,
    )


def items(texts: bool = False) -> list[ShardItem]:
    return [ShardItem(f"id {n}", features(n, texts), f"{n}" * 64) for n in (2, 0, 1)]


def write(path: Path, given_items: list[ShardItem], dtype: str = "float32") -> Path:
    write_shard(path, header(), given_items, dtype, 3)
    return path


@pytest.mark.parametrize("texts", [False, True])
def test_round_trip(tmp_path: Path, texts: bool) -> None:
    shard = Shard.open(write(tmp_path / "a.h5", items(texts)))
    assert shard.header == header()
    assert shard.ids == ("id 0", "id 1", "id 2")
    assert shard.status == (Status.EMPTY, Status.OK, Status.OK)
    assert shard.reasons == ("no video stream", "", "")
    for item, given_item in zip(
        shard.items(), sorted(items(texts), key=lambda i: i.id), strict=True
    ):
        assert item.media_sha256 == given_item.media_sha256
        np.testing.assert_array_equal(item.features.values, given_item.features.values)
        np.testing.assert_array_equal(item.features.end_s, given_item.features.end_s)
        assert item.features.texts == given_item.features.texts


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(0, 5), st.just(2)), elements=st.floats(-9, 9, width=16)
    ),
    st.text(min_size=1).filter(lambda s: "\0" not in s),
    st.sampled_from(["float16", "float32"]),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
def test_any_item_survives(tmp_path: Path, values: np.ndarray, name: str, dtype: str) -> None:
    times = np.arange(len(values), dtype=np.float64)
    given_features = (
        Features(values, times, times) if len(values) else Features.empty("why", width=2)
    )
    path = tmp_path / "x.h5"
    write_shard(path, header(), [ShardItem(name, given_features, "s")], dtype, 2)
    shard = Shard.open(path)
    shard.verify()
    assert shard.ids == (name,)
    np.testing.assert_array_equal(shard.item(0).features.values, values)


def test_equal_input_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    a = write(tmp_path / "a.h5", items())
    b = write(tmp_path / "deeper" / "b.h5", items()[::-1])
    assert a.read_bytes() == b.read_bytes()
    assert str(tmp_path).encode() not in a.read_bytes()


def test_values_are_mapped_and_no_handle_stays_open(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", items(), "float16")
    shard = Shard.open(path)
    assert isinstance(shard.values, np.memmap)
    assert shard.values.dtype == np.float16
    path.unlink()  # the memory map stays valid
    shard.verify()


def test_a_shard_of_items_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [ShardItem("a", features(0), "s")])
    assert Shard.open(path).values.shape == (0, 3)


def test_an_id_twice_or_another_width_is_refused(tmp_path: Path) -> None:
    item = ShardItem("a", features(1), "s")
    with pytest.raises(ValueError, match="twice"):
        write(tmp_path / "a.h5", [item, item])
    with pytest.raises(ValueError, match="width 5"):
        write(tmp_path / "a.h5", [ShardItem("a", features(1, width=5), "s")])
    assert not list(tmp_path.iterdir())


def test_every_flipped_byte_of_the_values_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", items())
    with h5py.File(path) as file:
        first, size = file["values"].id.get_offset(), file["values"].size * 4
    data = bytearray(path.read_bytes())
    for at in range(first, first + size, 5):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ShardError, match=r"1 damaged items, .* digests: 'id"):
            Shard.open(path).verify()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_damaged_not_a_crash(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "a.h5", items())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ShardError, match=r"a\.h5: "):
        Shard.open(path).verify()


@pytest.mark.parametrize("change", ["missing", "lengths", "offset"])
def test_parts_that_do_not_fit_together_are_damage(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "a.h5", items())
    with h5py.File(path, "a") as file:
        if change == "missing":
            del file["digest"]
        elif change == "lengths":
            del file["start_s"]
            file["start_s"] = np.zeros(1)
        else:
            file["offset"][1] = 99
    with pytest.raises(ShardError, match="damaged"):
        Shard.open(path)


def test_another_schema_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = unsealed(write(tmp_path / "a.h5", items()), 3)
    with pytest.raises(SchemaError, match=r"version 3, this m2hf reads version 1 and 2; install"):
        Shard.open(path)


@pytest.mark.parametrize("change", ["flags", "status", "environment", "version"])
def test_what_no_item_covers_is_found_at_open(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "a.h5", items())
    with h5py.File(path, "r+") as file:
        if change == "status":
            file["status"][0] = b"ok"
        elif change == "version":
            file.attrs["version"] = 1
        else:
            file.attrs[change] = "[]" if change == "flags" else "{}"
    with pytest.raises(ShardError, match=r"damaged shard \(its bytes differ"):
        Shard.open(path)


@pytest.mark.parametrize("version", [1, 2])
def test_the_fixtures_of_all_versions_are_readable_for_ever(tmp_path: Path, version: int) -> None:
    """Written once by `write(path, items(texts=True), "float16")`; never written again."""
    path = Path(shutil.copy(DATA / f"shard-v{version}.h5", tmp_path))
    shard = Shard.open(path)
    shard.verify()
    assert shard.header == header()
    assert shard.item(2).features.texts == ("wörd 0", "wörd 1")
    np.testing.assert_array_equal(shard.item(1).features.values, [[0, 1, 2]])


def test_a_shard_says_which_items_are_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", items())
    with h5py.File(path, "r+") as file:
        file["values"][0, 0] += 1
        file["values"][2, 0] = np.nan
    shard = Shard.open(path)
    assert shard.damaged() == ("id 1", "id 2")
    assert shard.item(0).id == "id 0"
    with pytest.raises(ShardError, match="item 'id 1' doesn't match its digest"):
        shard.item(1)
    with pytest.raises(ShardError, match="item 'id 1'"):
        list(shard.items())


def test_equal_content_gives_the_bytes_of_the_fixture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", items(texts=True), "float16")
    assert path.read_bytes() == (DATA / "shard-v2.h5").read_bytes()


def test_too_few_file_handles_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(b"never read")

    def no_handle(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "open", no_handle)
    monkeypatch.setattr("m2hf.hdf5.raise_if_unreadable", lambda *_: None)
    with pytest.raises(ResourceError, match="too many open files; use fewer workers"):
        Shard.open(path)
