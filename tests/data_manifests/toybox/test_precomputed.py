"""The precomputed features of the default toybox are those that extraction would give."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from benchmarks.toybox import pack

from m2hf.cli.options import TOYBOX_CLIPS
from m2hf.cli.recipe import load_recipe
from m2hf.data_manifests import cards
from m2hf.data_manifests.toybox import precomputed
from m2hf.data_manifests.toybox.corpus import ToyboxCorpus, write_clip
from m2hf.layout import StoreLayout
from m2hf.ledger_view import LedgerView
from m2hf.manifest import Manifest
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import read_job_state
from m2hf.shard import Shard, ShardItem

Command = Callable[..., "CompletedProcess[str]"]
DEFAULT = ToyboxCorpus.draw(TOYBOX_CLIPS)
MOST_BYTES = 5e6
PRECOMPUTED = sum(clip.split != "test" for clip in DEFAULT.clips.values())


pytestmark = pytest.mark.usefixtures("demo_weights")


def items(paths: list[Path]) -> dict[str, ShardItem]:
    return {item.id: item for path in paths for item in Shard.open(path).items()}


def job(folder: Path, manifest: Manifest) -> Job:
    manifest.save(folder / "manifest")
    (folder / "videos").mkdir(exist_ok=True)
    section = load_recipe(Path("demo"), [])[1]
    paths = (folder / "manifest", folder / "videos", folder / "store")
    return Job.prepare(*paths, section, precomputed.EXTRACTORS)


def test_only_the_test_split_is_left_for_ocr_and_asr(tmp_path: Path) -> None:
    manifest = DEFAULT.manifest()
    assert precomputed.copy_to_store(tmp_path / "store", manifest) == PRECOMPUTED
    found = read_job_state(job(tmp_path, manifest), LedgerView.read(tmp_path / "none"))
    for name in precomputed.EXTRACTORS:
        counts = found.counts[name]
        assert counts["missing"] == TOYBOX_CLIPS - PRECOMPUTED
        assert counts["ok"] + counts["empty"] == PRECOMPUTED
    assert sum(path.stat().st_size for path in pack.FOLDER.iterdir()) < MOST_BYTES


def test_the_card_is_of_the_default_set() -> None:
    assert DEFAULT.manifest().card == cards.read("toybox")


def test_existing_shards_are_kept(tmp_path: Path) -> None:
    manifest = DEFAULT.manifest()
    precomputed.copy_to_store(tmp_path, manifest)
    first = next(tmp_path.rglob("*.h5"))
    first.write_bytes(b"mine")
    precomputed.copy_to_store(tmp_path, manifest)
    assert first.read_bytes() == b"mine"


@pytest.mark.parametrize(("clips", "seed"), [(TOYBOX_CLIPS - 8, 0), (TOYBOX_CLIPS, 1)])
def test_another_set_gets_nothing(tmp_path: Path, clips: int, seed: int) -> None:
    assert (
        precomputed.copy_to_store(tmp_path / "store", ToyboxCorpus.draw(clips, seed).manifest())
        == 0
    )
    assert not (tmp_path / "store").exists()


def test_packing_a_copied_store_gives_the_same_features(tmp_path: Path) -> None:
    manifest = DEFAULT.manifest()
    precomputed.copy_to_store(tmp_path / "store", manifest)
    manifest.save(tmp_path / "manifest")
    pack.main(["--data", str(tmp_path), "--out", str(tmp_path / "packed")])
    for name in precomputed.EXTRACTORS:
        packed, shipped = (
            Shard.open(at / f"{name}.h5") for at in (tmp_path / "packed", pack.FOLDER)
        )
        assert (packed.header, packed.digests) == (shipped.header, shipped.digests)
        assert (packed.ids, packed.media_sha256) == (shipped.ids, shipped.media_sha256)


def test_extraction_gives_the_precomputed_features(tmp_path: Path, m2hf: Command) -> None:
    train = {name: clip for name, clip in DEFAULT.clips.items() if clip.split == "train"}
    signed = next(name for name, clip in train.items() if clip.scene.sign)
    spoken = next(name for name, clip in train.items() if clip.scene.spoken)
    whole = DEFAULT.manifest()
    few = replace(whole, rows=tuple(whole.by_id[name] for name in dict.fromkeys((signed, spoken))))
    (tmp_path / "videos").mkdir()
    for row in few.rows:
        write_clip(tmp_path / "videos" / row.path, train[row.id].scene)
    few.save(tmp_path / "manifest")
    done = m2hf(
        *("extract", "--config", "demo", "--only", ",".join(precomputed.EXTRACTORS)),
        *("--manifest", "manifest", "--media", "videos", "--store", "store"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    layout = StoreLayout.open(tmp_path / "store")
    for name, of in (("ocr", signed), ("asr", spoken)):
        now = items(list(layout.shards(layout.find_stream(name))))
        precomputed_items = items([pack.FOLDER / f"{name}.h5"])
        assert precomputed_items[of].features.texts
        for row in few.rows:
            assert now[row.id].features.texts == precomputed_items[row.id].features.texts
            assert now[row.id].features.reason == precomputed_items[row.id].features.reason
