"""Features leave a store as they are in it, with their provenance, and come back equal."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow.ipc
import pytest

from m2hf.atomic import atomic_folder
from m2hf.errors import MediaError, ShardError, UsageError
from m2hf.exchange import arrow, files
from m2hf.exchange.exporting import NEVER, PROVENANCE, ExportedStream, export_streams
from m2hf.exchange.importing import NO_ROWS, import_streams
from m2hf.features import Features, Status
from m2hf.keys import fingerprint, group_by_bucket
from m2hf.layout import StoreLayout
from m2hf.ledger import LedgerWriter
from m2hf.manifest import Card, Manifest, Row
from m2hf.shard import Shard, ShardItem, write_shard
from m2hf.shard_header import ShardHeader

Command = Callable[..., "subprocess.CompletedProcess[str]"]
ODD = "a/b c.d"  # no file name, and WebDataset would cut it at the dot
IDS = ["one", "two", "silent", "failed", "never", ODD]
BUCKETS = 2
WIDTHS = {"clip": ("float16", 5), "ocr": ("float32", 2)}


@pytest.fixture
def manifest() -> Manifest:
    rows = tuple(
        Row(id=i, path=f"{n}.mp4", split="train", captions=(f"the {i}",)) for n, i in enumerate(IDS)
    )
    return Manifest(Card(name="my set", protocol="one_caption"), rows)


@pytest.fixture
def store(manifest: Manifest, tmp_path: Path) -> Path:
    """Two streams in two buckets: an EMPTY video, one that failed, one never extracted, and one
    that the manifest doesn't have."""
    layout = StoreLayout(tmp_path / "store", "my set")
    layout.record(BUCKETS)
    rng = np.random.default_rng(0)
    for name, (dtype, width) in WIDTHS.items():
        items = [
            ShardItem(item, _features(rng, name, width, dtype, empty=item == "silent"), "0")
            for item in ["one", "two", "silent", ODD, "other"]
        ]
        for bucket, inside in group_by_bucket(items, BUCKETS, lambda item: item.id).items():
            header = ShardHeader(
                "my set", name, 1, fingerprint({"name": name}), bucket, BUCKETS, manifest.digest,
                {"made": name}, {"w.pth": "00"}, {}, flags=("untrained",) if name == "clip" else (),
            )  # fmt: skip
            write_shard(
                layout.shard(name, header.fingerprint, bucket, BUCKETS),
                header,
                inside,
                dtype,
                width,
            )
    writer = LedgerWriter(layout.ledger)
    broken = MediaError("broken file")
    writer.failed("failed", [layout.find_stream("clip")], "decode", broken, 1.0, attempt=1)
    writer.close()
    return layout.root


def _features(rng: np.random.Generator, name: str, width: int, dtype: str, empty: bool) -> Features:
    if empty:
        return Features.empty("nothing there", width, texts=name == "ocr")
    count = int(rng.integers(1, 5))
    start = np.sort(rng.uniform(0, 9, size=count))
    texts = tuple(f"text {i} é" for i in range(count)) if name == "ocr" else None
    return Features(
        rng.normal(size=(count, width)).astype(dtype),
        start,
        start + rng.uniform(0, 1, size=count),
        texts=texts,
        confidence=None if texts is None else np.full(count, 0.5),
    )


def stored(store: Path, stream: str) -> dict[str, Features]:
    shards = [Shard.open(path) for path in StoreLayout(store, "my set").shards(stream)]
    return {item.id: item.features for shard in shards for item in shard.items()}


def give(manifest: Manifest, store: Path, out: Path, form: str) -> dict[str, ExportedStream]:
    return export_streams(manifest, store, ["clip", "ocr"], form, out)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_out_and_in_again_gives_equal_features(
    manifest: Manifest, store: Path, tmp_path: Path
) -> None:
    made = give(manifest, store, tmp_path / "out", "npz")
    again = import_streams(
        manifest, tmp_path / "again", {name: tmp_path / "out" / name for name in made}, {}
    )
    for name, report in made.items():
        before, after = stored(store, report.stream), stored(tmp_path / "again", again[name].stream)
        assert (again[name].dtype, again[name].width) == WIDTHS[name]
        assert again[name].missing == ("failed", "never")
        assert again[name].flags == ()
        assert set(after) == set(before) - {"other"}
        for item, features in after.items():
            for column in ("values", "start_s", "end_s"):
                np.testing.assert_array_equal(
                    getattr(features, column), getattr(before[item], column)
                )
        assert after["silent"].status is Status.EMPTY
        assert after["silent"].reason == NO_ROWS
    strings = json.loads((tmp_path / "out" / "ocr" / "one.json").read_text(encoding="utf-8"))
    texts = stored(store, made["ocr"].stream)["one"].texts
    assert texts is not None
    assert strings == {"id": "one", "texts": list(texts), "confidence": [0.5] * len(texts)}


@pytest.mark.parametrize("form", ["npz", "wds", "arrow"])
def test_provenance_names_every_video(
    manifest: Manifest, store: Path, tmp_path: Path, form: str
) -> None:
    made = give(manifest, store, tmp_path / "out", form)
    record = json.loads((tmp_path / "out" / PROVENANCE).read_text(encoding="utf-8"))
    assert record["manifest"] == manifest.digest
    assert (record["format"], record["videos"]) == (form, len(IDS))
    clip, ocr = record["streams"]["clip"], record["streams"]["ocr"]
    assert clip["ok"] + len(clip["empty"]) + len(clip["missing"]) == len(IDS)
    assert clip["empty"] == {"silent": "nothing there"}
    assert clip["missing"] == {"failed": "MediaError: broken file", "never": NEVER}
    assert ocr["missing"] == {"failed": NEVER, "never": NEVER}
    assert (clip["flags"], ocr["flags"]) == (["untrained"], [])
    assert clip["fingerprint"] == fingerprint({"name": "clip"})
    assert clip["shards"] == StoreLayout(store, "my set").digest(made["clip"].stream)
    assert clip["manifests"] == [manifest.digest]


def test_the_tars_hold_every_video(
    manifest: Manifest, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As WebDataset reads them: members in order, a sample ends where the part of the name before
    the first dot changes."""
    monkeypatch.setattr(files, "SAMPLES", 4)
    made = give(manifest, store, tmp_path / "out", "wds")
    tars = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert tars == ["my%20set-000000.tar", "my%20set-000001.tar"]
    samples: list[tuple[str, dict[str, bytes]]] = []
    for path in tars:
        with tarfile.open(tmp_path / "out" / path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
                assert "/" not in member.name
                key, _, kind = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None
                if not samples or samples[-1][0] != key:
                    samples.append((key, {}))
                samples[-1][1][kind] = content.read()
    heads = {json.loads(parts["json"])["id"]: parts for _, parts in samples}
    assert sorted(heads) == sorted(IDS)
    assert len(samples) == len(IDS)
    for name, report in made.items():
        features = stored(store, report.stream)
        for item, parts in heads.items():
            head = json.loads(parts["json"])
            assert head["captions"] == [f"the {item}"]
            stream = head["streams"][name]
            if item not in features:
                assert f"{name}.npy" not in parts
                assert (stream["status"], stream["reason"]) == ("missing", report.missing[item])
                continue
            values = np.load(io.BytesIO(parts[f"{name}.npy"]), allow_pickle=False)
            assert values.dtype.name == WIDTHS[name][0]
            np.testing.assert_array_equal(values, features[item].values)
            assert stream["start_s"] == features[item].start_s.tolist()
            assert stream["status"] == features[item].status.value
            assert stream.get("texts", []) == list(features[item].texts or ())


def test_the_tables_have_a_row_for_every_video(
    manifest: Manifest, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "_BATCH", 4)
    made = give(manifest, store, tmp_path / "out", "arrow")
    for name, report in made.items():
        features = stored(store, report.stream)
        table = pyarrow.ipc.open_file(tmp_path / "out" / f"{name}.arrow").read_all()
        assert (
            str(table.schema.field("values").type.value_type.value_type)
            == {
                "float16": "halffloat",
                "float32": "float",
            }[WIDTHS[name][0]]
        )
        rows = {row["id"]: row for row in table.to_pylist()}
        assert sorted(rows) == sorted(IDS)
        assert table.num_rows == len(IDS)
        for item, row in rows.items():
            assert (row["split"], row["captions"]) == ("train", [f"the {item}"])
            if item not in features:
                assert (row["status"], row["reason"]) == ("missing", report.missing[item])
                assert (row["values"], row["start_s"], row["texts"]) == (None, None, None)
                continue
            expected = features[item]
            assert (row["status"], row["reason"]) == (expected.status.value, expected.reason)
            values = np.array(row["values"], expected.values.dtype).reshape(-1, report.width)
            np.testing.assert_array_equal(values, expected.values)
            assert row["start_s"] == expected.start_s.tolist()
            assert row["end_s"] == expected.end_s.tolist()
            texts = None if expected.texts is None else list(expected.texts)
            assert row["texts"] == texts
            sure = None if expected.confidence is None else expected.confidence.tolist()
            assert row["confidence"] == sure


def test_without_pyarrow_nothing_is_written(
    manifest: Manifest, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="pyarrow"):  # the command names the extra
        give(manifest, store, tmp_path / "out", "arrow")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["npz", "wds", "arrow"])
def test_equal_features_give_equal_bytes(
    manifest: Manifest, store: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(manifest, store, tmp_path / "a", form)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    give(Manifest(manifest.card, manifest.rows[::-1]), store, tmp_path / "b", form)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not any(
        str(tmp_path).encode() in content for content in contents(tmp_path / "a").values()
    )


def test_damage_leaves_nothing_behind(manifest: Manifest, store: Path, tmp_path: Path) -> None:
    layout = StoreLayout(store, "my set")
    *_, path = layout.shards(layout.find_stream("ocr"))
    with h5py.File(path, "r+") as file:
        file["values"][0, 0] += 1.0
    with pytest.raises(ShardError, match="doesn't match its digest"):
        give(manifest, store, tmp_path / "out", "wds")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / ".out.tmp-1").mkdir()  # left by a writer that was killed

    def fill() -> None:
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("half", encoding="utf-8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_no_file_can_have(manifest: Manifest, store: Path, tmp_path: Path) -> None:
    long = Manifest(manifest.card, (Row(id="é" * 50, path="v.mp4", split="train"),))
    with pytest.raises(UsageError, match="too long for a file name; --format wds"):
        give(long, store, tmp_path / "out", "npz")
    give(long, store, tmp_path / "out", "wds")
    (tar,) = (tmp_path / "out").glob("*.tar")
    with tarfile.open(tar) as file:
        assert file.getnames() == ["%C3%A9" * 50 + ".json"]


@pytest.mark.parametrize(
    ("names", "form", "message"),
    [
        ([], "npz", "nothing to export"),
        (["clip"], "zip", "no such format; known: npz, wds, arrow"),
        (["clip", "clip"], "npz", "given twice"),
        (["depth"], "npz", "no features of 'depth'; the store has clip@"),
    ],
)
def test_what_cannot_be_is_said(
    manifest: Manifest, store: Path, tmp_path: Path, names: list[str], form: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export_streams(manifest, store, names, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(manifest: Manifest, store: Path, tmp_path: Path, m2hf: Command) -> None:
    manifest.save(tmp_path / "manifest")
    out = tmp_path / "out"
    options = ["--manifest", tmp_path / "manifest", "--store", store, "--out", out]
    done = m2hf("export", *options, "--stream", "clip", "--format", "npz")
    assert done.returncode == 0, done.stderr
    assert "3 videos of width 5 (float16), 1 empty, 2 missing" in done.stdout
    assert "untrained" in done.stdout
    assert "missing: failed, never" in done.stdout
    done = m2hf("export", *options, "--stream", "clip", "--format", "wds", "--json")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "already exists" in done.stderr
