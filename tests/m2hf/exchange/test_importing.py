"""Import: arrays of other tools become shards, with provenance and clear errors."""

import json
import os
import pickle  # noqa: TID251 - to show that none is read
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_mutations import mutations
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations import refused_in_one_line
from typer.testing import CliRunner

from m2hf import numpy_files
from m2hf.cli.app import app
from m2hf.errors import ManifestError, UsageError
from m2hf.exchange.arrays import item_arrays
from m2hf.exchange.importing import NO_ROWS, UNCHECKED, UNTIMED, ImportedStream, import_streams
from m2hf.features import Status
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.keys import safe_name
from m2hf.layout import StoreLayout
from m2hf.manifest import Card, Manifest, Row, Split, captions_of
from m2hf.shard import Shard, ShardItem
from m2hf.streams import StreamName

WIDTH = 6
ODD = "a/b c"  # an id that is no file name


@pytest.fixture
def manifest() -> Manifest:
    ids = ["one", "two", "three", ODD, "absent"]
    rows = tuple(
        Row(id=i, path=f"{n}.mp4", split="train", captions=(f"the {i}", f"again {i}"))
        for n, i in enumerate(ids)
    )
    return Manifest(Card(name="mine", protocol="one_caption"), rows)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    counts = {"one": 3, "two": 1, "three": 0, ODD: 4}
    return {i: rng.normal(size=(n, WIDTH)).astype(np.float32) for i, n in counts.items()}


def save_folder(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for item, values in arrays.items():
        np.save(folder / f"{safe_name(item)}.npy", values)
    return folder


def save_file(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for item, values in arrays.items():
            file[safe_name(item)] = values
    return path


def take(manifest: Manifest, store: Path, path: Path, name: str = "depth") -> ImportedStream:
    return import_streams(manifest, store, {name: path}, {})[name]


def stored(store: Path, stream: str) -> dict[str, ShardItem]:
    shards = [Shard.open(path) for path in StoreLayout(store, "mine").shards(stream)]
    for shard in shards:
        shard.verify()
    return {item.id: item for shard in shards for item in shard.items()}


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_a_folder_of_arrays(
    manifest: Manifest, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = save_folder(tmp_path / "d", arrays)
    (folder / "README.txt").write_text("left alone", encoding="utf-8")
    (folder / ".hidden.npy").write_bytes(b"left alone")
    made = take(manifest, tmp_path / "store", folder)
    assert (made.ok, made.empty, made.missing) == (3, 1, ("absent",))
    assert (made.width, made.dtype, made.flags) == (WIDTH, "float32", (UNTIMED,))
    items = stored(tmp_path / "store", made.stream)
    assert set(items) == set(arrays)
    for item, values in arrays.items():
        features = items[item].features
        np.testing.assert_array_equal(features.values, values)
        np.testing.assert_array_equal(features.start_s, np.arange(len(values)))
        np.testing.assert_array_equal(features.end_s, np.arange(len(values)) + 1)
    assert items["three"].features.status is Status.EMPTY
    assert items["three"].features.reason == NO_ROWS


def test_provenance_is_content_and_no_place(
    manifest: Manifest, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Wherever and in whichever kind of file the arrays lie, the store has the same bytes."""
    made = take(manifest, tmp_path / "s1", save_folder(tmp_path / "d", arrays))
    again = take(manifest, tmp_path / "s2", save_file(tmp_path / "f.h5", arrays))
    assert made == again
    assert files(tmp_path / "s1") == files(tmp_path / "s2")
    assert not any(str(tmp_path).encode() in content for content in files(tmp_path / "s1").values())
    (path, *_) = StoreLayout(tmp_path / "s1", "mine").shards(made.stream)
    header = Shard.open(path).header
    assert header.config["extractor"] == header.extractor == "depth"
    assert header.config["imported"] is True
    assert header.manifest == manifest.digest
    changed = arrays | {"one": arrays["one"] + 1}
    other = take(manifest, tmp_path / "s1", save_folder(tmp_path / "e", changed))
    assert other.stream != made.stream
    assert other.others == (made.stream,)
    renamed = take(manifest, tmp_path / "s1", tmp_path / "d", "range")
    assert renamed.stream.partition("@")[2] != made.stream.partition("@")[2]


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_times_are_kept(manifest: Manifest, tmp_path: Path, kind: str) -> None:
    start, end = np.array([0.5, 2.0]), np.array([1.5, 3.0], dtype=np.float32)
    values = np.ones((2, 3), dtype=np.float16)
    if kind == "npz":
        path = tmp_path / "d"
        path.mkdir()
        np.savez(path / "one.npz", values=values, start_s=start, end_s=end)
    else:
        path = tmp_path / "f.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("one")
            group["values"], group["start_s"], group["end_s"] = values, start, end
    made = take(manifest, tmp_path / "store", path)
    assert (made.flags, made.dtype) == ((), "float16")
    features = stored(tmp_path / "store", made.stream)["one"].features
    np.testing.assert_array_equal(features.start_s, start)
    np.testing.assert_array_equal(features.end_s, end)


def test_one_row_a_video_and_doubles(manifest: Manifest, tmp_path: Path) -> None:
    arrays = {"one": np.full(WIDTH, 0.1), "two": np.zeros(WIDTH, dtype=np.float16)}
    made = take(manifest, tmp_path / "store", save_folder(tmp_path / "d", arrays))
    assert (made.ok, made.dtype) == (2, "float32")
    assert stored(tmp_path / "store", made.stream)["one"].features.values.shape == (1, WIDTH)


BAD: dict[str, tuple[dict[str, Any], type[UsageError], str]] = {
    "nan": ({"one": np.array([[0.0], [np.nan]])}, UsageError, "one.npy: row 1 holds NaN"),
    "too large": ({"one": np.array([[1e300]])}, UsageError, "row 0 holds NaN, infinity or more"),
    "ndim": ({"one": np.zeros((1, 2, 3))}, UsageError, r"one.npy: shape \(1, 2, 3\); expected"),
    "scalar": ({"one": np.float32(1)}, UsageError, "expected .N, D. rows"),
    "no columns": ({"one": np.zeros((2, 0))}, UsageError, "no columns"),
    "width": (
        {"one": np.zeros((1, 2)), "two": np.zeros((1, 3))},
        UsageError,
        "two.npy: width 3.*one stream has one width",
    ),
    "integers": ({"one": np.zeros((1, 2), dtype=int)}, UsageError, "type int64; expected float16"),
    "unknown": ({"nosuch": np.zeros((1, 2))}, ManifestError, "nosuch.npy is .*--skip-unknown"),
    "all empty": ({"one": np.zeros((0, 0))}, UsageError, "nothing to import"),
}


@pytest.mark.parametrize(("arrays", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arrays_are_one_clear_line(
    manifest: Manifest,
    tmp_path: Path,
    arrays: dict[str, Any],
    error: type[UsageError],
    message: str,
) -> None:
    folder = save_folder(tmp_path / "d", arrays)
    with pytest.raises(error, match=message) as caught:
        take(manifest, tmp_path / "store", folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists(), "nothing is written before all is checked"


def test_files_that_are_no_arrays(manifest: Manifest, tmp_path: Path) -> None:
    """Never unpickled, and the line names the file."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    folder = tmp_path / "d"
    folder.mkdir()
    objects = np.array([Trap()], dtype=object)
    for name, write in {
        "one.npy": lambda p: p.write_bytes(pickle.dumps(Trap())),
        "two.npy": lambda p: np.save(p, objects),
        "three.npz": lambda p: np.savez(p, values=objects),
        "absent.npz": lambda p: p.write_bytes(b"PK\x03\x04 no zip"),
    }.items():
        write(folder / name)
        with pytest.raises(UsageError, match=f"{name}: not a readable array file"):
            take(manifest, tmp_path / "store", folder)
        (folder / name).unlink()
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(UsageError, match=r"no \.npy or \.npz file"):
        take(manifest, tmp_path / "store", folder)
    with pytest.raises(UsageError, match="no such file or folder"):
        take(manifest, tmp_path / "store", tmp_path / "nowhere")
    (tmp_path / "text.h5").write_text("hello", encoding="utf-8")
    with pytest.raises(UsageError, match="not an HDF5 file"):
        take(manifest, tmp_path / "store", tmp_path / "text.h5")


@given(st.integers(0, 127), st.integers(0, 255), st.sampled_from(["one.npy", "one.npz"]))
@example(at=73, byte=ord(" "), name="one.npy")  # an open bracket: the tokeniser's own error
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200
)
def test_a_damaged_header_of_an_array_is_one_clear_line(
    tmp_path: Path, at: int, byte: int, name: str
) -> None:
    path = tmp_path / name
    if name.endswith("npz"):
        np.savez(path, values=np.ones((4, 8), np.float32))
    else:
        np.save(path, np.ones((4, 8), np.float32))
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data)
    with refused_in_one_line(UsageError, f"{path}: "):
        numpy_files.load(path, str(path))


def test_arrays_of_unknown_ids_are_skipped_and_counted_on_request(
    manifest: Manifest, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    more = arrays | {"nosuch": np.zeros((1, 2)), "other": np.zeros((1, 9), dtype=int)}
    folder, file = save_folder(tmp_path / "d", more), save_file(tmp_path / "f.h5", more)
    captions = caption_file(tmp_path / "c.npz", manifest)
    fewer = replace(manifest, rows=manifest.rows[:3])
    for streams in ({"depth": folder}, {"depth": file}):
        with pytest.raises(ManifestError, match=r"and 2 others.*--skip-unknown"):
            import_streams(fewer, tmp_path / "store", streams, {})
        told = {"caption": captions}
        made = import_streams(fewer, tmp_path / "store", streams, told, skip_unknown=True)
        depth, caption = made["depth"], made["caption"]
        assert (depth.ok, depth.empty, depth.missing, depth.unknown) == (2, 1, (), 3)
        assert (caption.ok, caption.missing, caption.unknown) == (6, (), 4)
    with pytest.raises(ManifestError, match=r"is no caption of the manifest.*--skip-unknown"):
        import_streams(fewer, tmp_path / "store", {}, {"caption": captions})
    none = save_folder(tmp_path / "none", {"nosuch": np.zeros((1, 2))})
    with pytest.raises(UsageError, match="besides 1 of unknown ids, so there is nothing"):
        import_streams(manifest, tmp_path / "store", {"depth": none}, {}, skip_unknown=True)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
def test_rows_are_in_time_order_or_refused_with_the_row(tmp_path: Path, starts: list[int]) -> None:
    start_s = np.array(starts, dtype=np.float64)
    parts = {"values": np.ones((len(starts), 2)), "start_s": start_s, "end_s": start_s + 1}
    wrong = [row for row in range(1, len(starts)) if starts[row] < starts[row - 1]]
    if wrong:
        with pytest.raises(UsageError, match=f"^here: start_s: row {wrong[0]} starts at"):
            item_arrays("here", parts)
    else:
        assert item_arrays("here", parts).start_s is start_s


def test_parts_of_an_npz_are_known(manifest: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    one = np.ones((2, 3))
    for parts, message in (
        ({"features": one}, "has features; expected values"),
        ({"values": one, "start": np.zeros(2)}, "expected values, and start_s with end_s"),
        ({"values": one, "start_s": np.zeros(2)}, "give both or neither"),
        ({"values": one, "start_s": np.zeros(3), "end_s": np.zeros(3)}, "start_s: expected"),
        ({"values": one, "start_s": np.ones(2), "end_s": np.zeros(2)}, "times: expected 0 <="),
    ):
        np.savez(folder / "one.npz", **parts)
        with pytest.raises(UsageError, match=message):
            take(manifest, tmp_path / "store", folder)
    np.savez(folder / "one.npz", values=one)
    np.save(folder / "one.npy", one)
    with pytest.raises(ManifestError, match="are both for id 'one'; remove one"):
        take(manifest, tmp_path / "store", folder)


def test_an_hdf5_file_may_not_point_elsewhere(manifest: Manifest, tmp_path: Path) -> None:
    other = save_file(tmp_path / "other.h5", {"secret": np.zeros((1, 2))})
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["one"] = h5py.ExternalLink(other.name, "secret")
    with pytest.raises(UsageError, match="a link; store the array itself"):
        take(manifest, tmp_path / "store", tmp_path / "f.h5")
    layout = h5py.VirtualLayout((1, 2), dtype="f8")
    layout[:] = h5py.VirtualSource(other, "secret", shape=(1, 2))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("one", layout)
    with pytest.raises(UsageError, match="are in another file"):
        take(manifest, tmp_path / "store", tmp_path / "v.h5")


@pytest.mark.parametrize("captions", [False, True])
def test_mutated_hdf5_files_are_imported_or_refused_in_one_line(
    manifest: Manifest, tmp_path: Path, captions: bool
) -> None:
    whole = tmp_path / "whole.h5"
    if captions:
        caption_file(whole, manifest)
    else:
        with h5py.File(whole, "w") as file:
            file["one"] = np.ones((2, 3))
            file["two/values"] = np.ones((2, 3))
            file["two/start_s"] = file["two/end_s"] = np.arange(2.0)
    store, accepted = tmp_path / "store", set()
    for name, mutate in mutations(whole):
        path = Path(shutil.copy(whole, tmp_path / "a.h5"))
        with h5py.File(path, "r+") as file:
            mutate(file)
        with refused_in_one_line(UsageError, str(path)):
            streams = {} if captions else {"depth": path}
            import_streams(manifest, store, streams, {"caption": path} if captions else {})
            accepted.add(name)
    elsewhere = ("virtual", "external", "never written", "huge", "a soft link", "a link to a file")
    assert accepted
    assert not {name for name in accepted if name.endswith(elsewhere)}


def caption_file(path: Path, manifest: Manifest, **changes: Any) -> Path:
    """All captions of `manifest` with sentence vectors and 0, 1, 2, 0, ... token vectors."""
    captions = list(captions_of(manifest.rows))
    counts = [n % 3 for n in range(len(captions))]
    rng = np.random.default_rng(1)
    parts = {
        "ids": np.array([c.id for c in captions]),
        "texts": np.array([c.text for c in captions]),
        "sentence": rng.normal(size=(len(captions), WIDTH)),
        "tokens": rng.normal(size=(sum(counts), WIDTH)),
        "token_offset": np.cumsum([0, *counts]),
    } | changes
    parts = {name: value for name, value in parts.items() if value is not None}
    if path.suffix == ".npz":
        np.savez(path, **parts)
        return path
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            file[name] = value.astype("S") if value.dtype.kind == "U" else value
    return path


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_captions_with_tokens(manifest: Manifest, tmp_path: Path, kind: str) -> None:
    path = caption_file(tmp_path / f"c.{kind}", manifest)
    made = import_streams(manifest, tmp_path / "store", {}, {"caption": path})["caption"]
    assert (made.ok, made.missing, made.flags) == (10, (), ())
    items = stored(tmp_path / "store", made.stream)
    third = items["two#0"].features
    assert len(third.values) == 1 + 2
    assert third.texts == ("the two", "", "")
    with h5py.File(caption_file(tmp_path / "same.h5", manifest), "r") as file:
        np.testing.assert_array_equal(third.values[0], file["sentence"][2].astype("f4"))
        np.testing.assert_array_equal(third.values[1:], file["tokens"][1:3].astype("f4"))


def test_captions_of_several_encoders_have_names(manifest: Manifest, tmp_path: Path) -> None:
    """Equal arrays are one stream under two names, both of captions."""
    same = caption_file(tmp_path / "c.npz", manifest)
    other = caption_file(tmp_path / "o.npz", manifest, sentence=np.ones((10, WIDTH)))
    files = {"caption": same, "caption_copy": same, "caption_other": other}
    made = import_streams(manifest, tmp_path / "store", {}, files)
    names = {name: StreamName(report.stream) for name, report in made.items()}
    assert [name.extractor for name in names.values()] == list(files)
    prints = [names[name].fingerprint8 for name in files]
    assert prints[0] == prints[1] != prints[2]
    layout = StoreLayout(tmp_path / "store", manifest.card.name)
    for name, stream in names.items():
        shards = [Shard.open(path) for path in layout.shards(stream)]
        assert sum(len(shard.ids) for shard in shards) == made[name].ok == 10
        for header in (shard.header for shard in shards):
            assert (header.extractor, header.kind, header.of_captions) == (name, "caption", True)
    with pytest.raises(UsageError, match=r"--captions Far: a name has lower-case"):
        import_streams(manifest, tmp_path / "store", {}, {"Far": same})
    with pytest.raises(UsageError, match=r"--captions far: also a --stream; one of them needs"):
        import_streams(manifest, tmp_path / "store", {"far": same}, {"far": same})


def test_captions_without_texts_say_so(manifest: Manifest, tmp_path: Path) -> None:
    path = caption_file(
        tmp_path / "c.npz", manifest, texts=None, tokens=None, token_offset=None,
        ids=np.array(["one#0", "two#1"]), sentence=np.ones((2, 4), dtype=np.float16),
    )  # fmt: skip
    made = import_streams(manifest, tmp_path / "store", {}, {"caption": path})["caption"]
    assert (made.ok, len(made.missing), made.flags) == (2, 8, (UNCHECKED,))
    assert (made.width, made.dtype) == (4, "float16")


def test_captions_must_be_the_manifests(manifest: Manifest, tmp_path: Path) -> None:
    ids = np.array([c.id for c in captions_of(manifest.rows)])
    texts = np.array([c.text for c in captions_of(manifest.rows)])
    nan = np.zeros((10, WIDTH))
    nan[3, 2] = np.nan
    for changes, message in (
        ({"texts": np.where(ids == "two#1", "other", texts)}, "'two#1' embeds 'other', but"),
        ({"ids": np.where(ids == "two#1", "two#7", ids)}, "'two#7' is no caption"),
        ({"ids": np.where(ids == "two#1", "two#0", ids), "texts": None}, "'two#0' occurs twice"),
        ({"sentence": np.zeros((9, WIDTH))}, r"10 ids, but sentence has shape \(9, 6\)"),
        ({"sentence": nan}, "'two#1': sentence: row 0 holds NaN"),
        ({"tokens": np.zeros((9, 2))}, "both need one type and width"),
        ({"token_offset": None}, "tokens and token_offset belong together"),
        ({"token_offset": np.arange(11)}, "rising from 0 to 9"),
        ({"sentence": None}, "expected ids"),
        ({"ids": np.arange(10)}, "ids must be a list of strings"),
    ):
        path = caption_file(tmp_path / "c.npz", manifest, **changes)
        with pytest.raises(UsageError, match=message):
            import_streams(manifest, tmp_path / "store", {}, {"caption": path})
    assert not (tmp_path / "store").exists()


def test_names_of_streams(manifest: Manifest, tmp_path: Path) -> None:
    for name in ("caption", "Depth", "a@b", ""):
        with pytest.raises(UsageError, match="a name has lower-case"):
            import_streams(manifest, tmp_path / "store", {name: tmp_path}, {})


SEEN, SAID, DEPTH, LATENT = 20, 12, 9, 6


def foreign(root: Path, of_depth: bool = False) -> Path:
    """Features of another tool: a manifest, frames of width 20, captions with tokens of width 12,
    audio and depth of width 9. of_depth: also captions in the space of depth."""
    rng = np.random.default_rng(3)
    splits: dict[Split, int] = {"train": 40, "val": 10, "test": 12}
    rows = tuple(
        Row(id=f"{s}{i}", path=f"{s}{i}.mp4", split=s, captions=("words",))
        for s, count in splits.items()
        for i in range(count)
    )
    manifest = Manifest(Card(name="mine", protocol="one_caption"), rows)
    manifest.save(root / "manifest")
    look, say, far = (rng.normal(size=(LATENT, width)) for width in (SEEN, SAID, DEPTH))
    latent = rng.normal(size=(len(rows), LATENT))
    ids = [row.id for row in rows]
    frames = {i: z @ look + rng.normal(size=(3, SEEN)) for i, z in zip(ids, latent, strict=True)}
    depth = {i: z @ far + rng.normal(size=(2, DEPTH)) for i, z in zip(ids, latent, strict=True)}
    save_folder(root / "frames", frames)
    save_file(root / "depth.h5", depth)
    save_folder(root / "audio", dict(list(depth.items())[::2]))
    np.savez(
        root / "captions.npz",
        ids=np.array([f"{i}#0" for i in ids]),
        texts=np.array(["words"] * len(ids)),
        sentence=latent @ say,
        tokens=np.repeat(latent @ say, 2, axis=0) + rng.normal(size=(2 * len(ids), SAID)),
        token_offset=2 * np.arange(len(ids) + 1),
    )
    if of_depth:
        named = np.array([f"{i}#0" for i in ids])
        np.savez(root / "of=depth.npz", ids=named, sentence=latent @ far)
    return root


LEVELS = """
[fuse]
project = ["frames", "depth"]
scoring = "wti"

[fuse.streams]
frames = "vit"
depth = "depth"
audio = "sound"

[fuse.levels.depth_visual]
stream = "depth"
fusion = "append"

[fuse.levels.depth]
stream = "depth"

[fuse.levels.motion_visual]
enabled = false

[fuse.levels.text]
enabled = false

[fuse.model]
width = 16
heads = 2

[fuse.train]
epochs = 2
batch_size = 16
"""


def test_import_train_eval(m2hf: Any, tmp_path: Path) -> None:
    """Foreign features, of widths and spaces of their own, train without our extraction: two
    levels more and two fewer, by config alone."""
    foreign(tmp_path)
    (tmp_path / "recipe.toml").write_text(LEVELS, encoding="utf-8")
    paths = ("--manifest", "manifest", "--store", "store")
    streams = ("--stream", "vit=frames", "--stream", "depth=depth.h5", "--stream", "sound=audio")
    done = m2hf("import", *paths, *streams, "--captions", "captions.npz", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == ["caption", "depth", "sound", "vit"]
    assert (report["depth"]["width"], report["vit"]["width"]) == (DEPTH, SEEN)
    assert (report["sound"]["ok"], len(report["sound"]["missing"])) == (31, 31)
    said = m2hf("import", *paths, "--stream", "sound=audio", cwd=tmp_path)
    assert "31 missing" in said.stdout
    assert UNTIMED in said.stdout
    np.save(tmp_path / "audio" / "nosuch.npy", np.ones((1, 9)))
    skipping = ("--stream", "sound=audio", "--skip-unknown")
    assert (
        "skipped (no id of the manifest): 1"
        in m2hf("import", *paths, *skipping, cwd=tmp_path).stdout
    )
    report = json.loads(m2hf("import", *paths, *skipping, "--json", cwd=tmp_path).stdout)
    assert report["sound"]["unknown"] == 1
    verified = m2hf("verify", *paths, "--json", cwd=tmp_path)
    assert json.loads(verified.stdout)["items"] == 62 * 3 + 31
    run = ("--run", "run", "--config", "recipe.toml")
    refused = m2hf("train", *paths, *run, "--set", 'fuse.project=["depth"]', cwd=tmp_path)
    assert refused.returncode == 2
    assert f"of width {SEEN} and captions are" in refused.stderr
    assert """--set 'fuse.project=["depth", "frames"]'""" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    trained = m2hf("train", *paths, *run, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "audio: no entry for 25 of 50 training and validation videos" in trained.stdout
    assert "fuse.train.videos=intersection trains without them" in trained.stdout
    scored = m2hf("eval", *paths, "--run", "run", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    table = m2hf("tables", "run/similarity.h5", cwd=tmp_path).stdout
    assert "| depth_visual |" in table
    assert "| depth |" in table
    assert "motion_visual" not in table
    assert UNTIMED in table


def test_captions_of_a_query_role(tmp_path: Path) -> None:
    """Depth has captions of its own space beside those that frames are projected to."""
    foreign(tmp_path, of_depth=True)
    (tmp_path / "recipe.toml").write_text(LEVELS, encoding="utf-8")
    store = ("--manifest", tmp_path / "manifest", "--store", tmp_path / "store")

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, list(map(str, arguments)))

    files = {"vit": "frames", "depth": "depth.h5", "sound": "audio"}
    streams = [("--stream", f"{name}={tmp_path / path}") for name, path in files.items()]
    captions = (f"caption={tmp_path / 'captions.npz'}", f"caption_far={tmp_path / 'of=depth.npz'}")
    given = [*chain(*streams), "--captions", captions[0], "--captions", captions[1]]
    done = run("import", *store, *given, "--json")
    assert json.loads(done.stdout)["caption_far"]["width"] == DEPTH
    asking = ("streams.far=caption_far", "levels.depth.query=far", 'project=["frames"]')
    settings = chain(*(("--set", f"fuse.{setting}") for setting in asking))
    folder = ("--run", tmp_path / "run")
    trained = run("train", *store, *folder, "--config", tmp_path / "recipe.toml", *settings)
    assert trained.exit_code == 0, trained.output
    assert run("eval", *store, *folder).exit_code == 0
    file = SimilarityFile.read(tmp_path / "run" / "similarity.h5")
    assert file.baselines["zero_shot_depth"].scores_QV.shape == (12, 12)
    own = text_to_video(file.scores["depth"], file.video_of_query).recall[1].expected
    assert own > 50  # of chance 8
    with pytest.raises(UsageError, match="were imported, so their text encoder is unknown"):
        raise run("search", "words", *store, *folder).exception


def test_command_line_mistakes(m2hf: Any, manifest: Manifest, tmp_path: Path) -> None:
    manifest.save(tmp_path / "manifest")
    paths = ("--manifest", "manifest", "--store", "store")
    for options, message in (
        ((), "nothing to import"),
        (("--stream", "depth"), "expected NAME=DIR_OR_FILE"),
        (("--stream", "a=x", "--stream", "a=y"), "given twice"),
    ):
        ended = m2hf("import", *paths, *options, cwd=tmp_path)
        assert ended.returncode == 2
        assert message in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_a_flag_of_the_data_set_is_repeated_by_its_streams(
    manifest: Manifest, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    flags = {"asr": ("captions come partly from scripts",)}
    flagged = Manifest(manifest.card.model_copy(update={"flags": flags}), manifest.rows)
    source = save_folder(tmp_path / "arrays", arrays)
    heard = take(flagged, tmp_path / "store", source, "asr")
    assert heard.flags == (UNTIMED, *flags["asr"])
    assert take(flagged, tmp_path / "store", source, "depth").flags == (UNTIMED,)
    shards = StoreLayout(tmp_path / "store", "mine").shards(heard.stream)
    assert {tuple(Shard.open(path).header.flags) for path in shards} == {heard.flags}
