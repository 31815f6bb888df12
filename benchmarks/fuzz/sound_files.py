"""A small sound file of every format, which the commands of `formats.py` accept."""

import json
import os
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from benchmarks.fuzz.command import Outcome, run
from benchmarks.levels.corpus import NAME, SETTINGS, Sizes, write
from m2hf.errors import MediaError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.training.run import train
from m2hf.layout import StoreLayout
from m2hf.ledger import LedgerWriter, TimeSpent
from m2hf.manifest import Manifest

RECIPE = """
[extract]
extractors = ["logmel", "caption"]
buckets = 2
[extract.encoder]
model = "m2hf-tiny"
pretrained = ""
[fuse]
device = "cpu"
[fuse.model]
width = 16
heads = 2
[fuse.train]
epochs = 1
batch_size = 4
[fuse.late]
rule = "mention"
"""
_SIZES = Sizes(train=6, val=2, test=4, captions=2)
_SETTINGS = {"device": "cpu", "model": {"width": 16, "heads": 2}}


def make(folder: Path) -> None:
    """Write them to `folder`; equal calls give equal files but for times in the ledger."""
    manifest = write(folder / "store", SETTINGS["balanced"], 0, {}, _SIZES)
    manifest.save(folder / "manifest")
    (folder / "media").mkdir()
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    StoreLayout(folder / "store", NAME).record(2)
    _ledger(folder, manifest)
    _runs(folder, manifest)
    _arrays(folder, manifest)
    _lists(folder, manifest)
    _weights(folder)


def _ledger(folder: Path, manifest: Manifest) -> None:
    layout = StoreLayout(folder / "store", NAME)
    stream = layout.find_stream("clip")
    writer = LedgerWriter(layout.ledger)
    first, second, *_ = [row.id for row in manifest.rows]
    writer.started(first, [stream], "extract", {second: [stream]})
    writer.decoded(first, 0.5)
    writer.done(first, stream, "ok", TimeSpent(0.5, 0.2), "a remark")
    writer.failed(second, [stream], "decode", MediaError("no such file"), 0.1, 1)
    writer.retry(second, [stream])
    writer.close()
    (path,) = layout.ledger.glob("*.jsonl")
    path.rename(layout.ledger / "sound.jsonl")  # a name without time and process


class _Interrupted(Exception):
    """Training is ended after its first epoch."""


def _runs(folder: Path, manifest: Manifest) -> None:
    def interrupt(_: object) -> None:
        raise _Interrupted

    config = FusionConfig.model_validate({**_SETTINGS, "train": {"epochs": 2, "batch_size": 4}})
    with suppress(_Interrupted):
        train(manifest, folder / "store", folder / "unfinished", config, interrupt)
    once = FusionConfig.model_validate({**_SETTINGS, "train": {"epochs": 1, "batch_size": 4}})
    train(manifest, folder / "store", folder / "run", once)
    with (folder / "kinds.csv").open("w", encoding="utf-8") as kinds:
        kinds.write("id,kind\n")
        kinds.writelines(f"{row.id}#0,seen\n" for row in manifest.split("test"))
    place = ("--manifest", folder / "manifest", "--store", folder / "store")
    _must(folder, "eval", *place, "--run", folder / "run")
    for suffix in ("md", "json", "csv", "html"):
        out = folder / f"table.{suffix}"
        _must(folder, "tables", folder / "run" / "similarity.h5", "--out", out)


def _must(folder: Path, *arguments: object) -> None:
    result = run([str(part) for part in arguments], folder)
    if result.outcome is not Outcome.ACCEPTED:
        raise RuntimeError(f"m2hf {' '.join(map(str, arguments))}: {result.said}")


def _arrays(folder: Path, manifest: Manifest) -> None:
    rng = np.random.default_rng(0)
    for kind in ("npy", "npz"):
        (folder / kind).mkdir()
    values, seconds = rng.normal(size=(3, 4)).astype("f4"), np.arange(3.0)
    ids = [f"{row.id}#0" for row in manifest.rows]
    with h5py.File(folder / "videos.h5", "w") as file:
        for row in manifest.rows:
            np.save(folder / "npy" / f"{row.id}.npy", values)
            timed = {"values": values, "start_s": seconds, "end_s": seconds + 1}
            np.savez(folder / "npz" / f"{row.id}.npz", **timed)  # type: ignore[arg-type]
            file.create_group(row.id).update(timed)
    captions = {"ids": np.array(ids), "sentence": rng.normal(size=(len(ids), 4)).astype("f4")}
    captions["texts"] = np.array([row.captions[0] for row in manifest.rows])
    captions["tokens"] = rng.normal(size=(2 * len(ids), 4)).astype("f4")
    captions["token_offset"] = 2 * np.arange(len(ids) + 1)
    np.savez(folder / "captions.npz", **captions)  # type: ignore[arg-type]
    with h5py.File(folder / "captions.h5", "w") as file:
        file.update({n: a.astype("S") if a.dtype.kind == "U" else a for n, a in captions.items()})
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", rng.normal(size=(6, 6)).astype("f4"))


def _lists(folder: Path, manifest: Manifest) -> None:
    texts = {
        "captions.csv": "id,caption,split\n"
        + "".join(f"{row.id},a caption,{row.split}\n" for row in manifest.rows),
        "queries.txt": "0\n1\n2\n3\n4\n5\n",
        "queries.json": json.dumps([f"v{n}" for n in range(6)]),
        "queries.csv": "query_id,video_id\n" + "".join(f"q{n},{n}\n" for n in range(6)),
        "ids.json": json.dumps([f"v{n}" for n in range(6)]),
        "terms.json": json.dumps({"a": 0.5, "b": {"weight": 1.0, "bias": 0.5}}),
        "terms.toml": "a = 0.5\n[b]\nweight = 1.0\ncentre = 0.25\ndeviation = 2.0\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _weights(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "a.bin").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    entry = {"file": "a.bin", "bytes": 0, "sha256": empty, "url": "https://example.org/a.bin"}
    index = {"schema": 1, "weights": {"a": entry}}
    (folder / "weights" / "index.json").write_text(json.dumps(index), encoding="utf-8")
    os.environ.pop("HF_ENDPOINT", None)
