"""The similarity file: round trip, equal bytes, what evaluation puts in it, what it refuses."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from byte_flips import missed_flips
from hdf5_mutations import mutations, unsealed
from mutations import refused_in_one_line

from m2hf.errors import ShardError, UsageError
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.scores.similarity_file import Baseline, SimilarityFile
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.keys import sha256_file
from m2hf.layout import StoreLayout


@pytest.fixture(scope="module")
def path(corpus: Any, run: Any) -> Path:
    return evaluate(corpus.manifest, corpus.store, run.folder)


@pytest.fixture
def file(path: Path) -> SimilarityFile:
    return SimilarityFile.read(path)


def test_every_number_traces_back(file: SimilarityFile, corpus: Any, run: Any) -> None:
    assert (file.dataset, file.split, file.benchmark) == ("synthetic", "test", "")
    assert file.manifest == corpus.manifest.digest
    assert file.checkpoint == sha256_file(run.summary.checkpoint)
    assert file.trained_on == "synthetic"
    assert set(file.streams) == {"frames", "captions", "audio", "motion", "text"}
    audio = file.streams["audio"]
    assert audio["config"] == {"extractor": "audio"}
    assert (audio["extractor"], audio["weights"]) == ("audio", {})
    assert audio["stream"].endswith(audio["fingerprint"][:8])
    assert audio["shards"] == StoreLayout(corpus.store, "synthetic").digest(
        "audio@" + audio["fingerprint"][:8]
    )
    assert file.config["model"]["width"] == 32
    assert file.flags == {"audio": ["untrained"]}


def test_missing_videos_stay_and_come_last(file: SimilarityFile) -> None:
    assert len(file.video_ids) == len(file.query_ids) == 20
    assert (file.missing["frames"], file.missing["captions"]) == (1, 0)
    unseen = file.video_ids.index("test019")
    for name, mask in file.masks.items():
        assert not mask[unseen]
        assert (file.scores[name][:, ~mask] == -1.0).all()
        assert (file.scores[name][:, mask] > -1.0).all()
    assert file.missing["text"] == 12
    assert {role: int(has.sum()) for role, has in file.present.items()} == {
        role: 20 - count for role, count in file.missing.items() if role != "captions"
    }
    assert file.masks["text"].sum() == 7  # the unseen video has text, but no level knows it
    fused = file.scores["late_fusion"]
    assert (fused[:, unseen] < np.delete(fused, unseen, axis=1).min()).all()
    assert len(set(fused[:, unseen])) == 1


def test_a_caption_without_features_stays_a_query(
    new_corpus: Callable[[Path], Any], run: Any, tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path / "store")
    rows = corpus.manifest.rows
    changed = tuple(
        r.model_copy(update={"captions": ("only", "new")}) if r.id == "test000" else r for r in rows
    )
    manifest = replace(corpus.manifest, rows=changed)
    for name in ("checkpoint.safetensors",):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    file = SimilarityFile.read(evaluate(manifest, corpus.store, tmp_path))
    assert len(file.query_ids) == 21
    assert file.missing["captions"] == 1
    for name, matrix in file.scores.items():
        row = matrix[file.query_ids.index("test000#1")]
        assert len(set(row)) == 1
        assert row[0] == (-1.0 if name != "late_fusion" else matrix.min())


def test_round_trip_and_equal_bytes(path: Path, file: SimilarityFile, tmp_path: Path) -> None:
    again = tmp_path / "again.h5"
    file.write(again)
    assert again.read_bytes() == path.read_bytes()
    with h5py.File(again) as stored:
        assert stored["scores/visual"].id.get_offset() is not None
        assert stored["scores/visual"].dtype == np.float32


def test_evaluating_twice_gives_equal_bytes(path: Path, corpus: Any, run: Any) -> None:
    before = path.read_bytes()
    evaluate(corpus.manifest, corpus.store, run.folder)
    assert path.read_bytes() == before


def test_a_renamed_store_gives_equal_bytes(
    path: Path, new_corpus: Callable[[Path], Any], run: Any, tmp_path: Path
) -> None:
    before = path.read_bytes()
    corpus = new_corpus(tmp_path / "moved")
    assert StoreLayout(corpus.store, "synthetic").streams()
    evaluate(corpus.manifest, corpus.store, run.folder)
    assert path.read_bytes() == before


def test_nan_is_never_written(file: SimilarityFile, tmp_path: Path) -> None:
    bad = {name: matrix.copy() for name, matrix in file.scores.items()}
    bad["visual"][3, 4] = np.nan
    with pytest.raises(ValueError, match="scores/visual: row 3, column 4 is NaN"):
        replace(file, scores=bad)
    with pytest.raises(ValueError, match="outside"):
        replace(file, video_of_query=file.video_of_query + 1)


def test_the_card_says_how_many_there_should_be(corpus: Any, run: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(run.summary.checkpoint.read_bytes())
    counts = {"test": {"videos": 21, "captions": 21}}
    card = corpus.manifest.card.model_validate(
        corpus.manifest.card.model_dump() | {"splits": counts}
    )
    path = evaluate(replace(corpus.manifest, card=card), corpus.store, tmp_path)
    assert SimilarityFile.read(path).declared == counts["test"]


def test_a_bank_is_kept_beside_the_scores(file: SimilarityFile, tmp_path: Path) -> None:
    bank = np.random.default_rng(0).random((7, 20), dtype=np.float32)
    replace(file, bank={"visual": bank}).write(tmp_path / "banked.h5")
    assert np.array_equal(SimilarityFile.read(tmp_path / "banked.h5").bank["visual"], bank)
    with pytest.raises(ValueError, match="a querybank without scores of that name"):
        replace(file, bank={"smell": bank})
    with pytest.raises(ValueError, match=r"bank/visual: expected \(B, 20\), got \(7, 19\)"):
        replace(file, bank={"visual": bank[:, 1:]})


def test_an_item_that_is_scored_must_match_its_digest(
    new_corpus: Callable[[Path], Any], run: Any, tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path / "store")
    shutil.copy(run.summary.checkpoint, tmp_path)
    layout = StoreLayout(corpus.store, "synthetic")
    for path in layout.shards(layout.find_stream("clip")):
        with h5py.File(path, "r+") as file:
            ids = [name.decode() for name in file["id"]]
            if "test003" in ids:
                file["values"][file["offset"][ids.index("test003")], 0] += 1
    with pytest.raises(ShardError, match="item 'test003' doesn't match its digest"):
        evaluate(corpus.manifest, corpus.store, tmp_path)


def test_a_split_that_is_not_there(corpus: Any, run: Any) -> None:
    rows = tuple(row for row in corpus.manifest.rows if row.split != "test")
    with pytest.raises(UsageError, match="split test: the manifest has no videos"):
        evaluate(replace(corpus.manifest, rows=rows), corpus.store, run.folder)


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.h5"
    with pytest.raises(UsageError, match="no such file"):
        SimilarityFile.read(copy)
    copy.write_bytes(path.read_bytes())
    for version in (1, 4):
        with pytest.raises(UsageError, match=f"version {version}, this m2hf reads version 2 and 3"):
            SimilarityFile.read(unsealed(copy, version))
    with h5py.File(unsealed(copy, 2), "r+") as stored:
        del stored["masks/text"]
    with pytest.raises(UsageError, match=r"damaged similarity file \(text: missing\)"):
        SimilarityFile.read(copy)
    with pytest.raises(UsageError, match=r"damaged similarity file \(its seal is gone\)"):
        SimilarityFile.read(unsealed(copy, 3))
    with h5py.File(copy, "w") as stored:
        stored.attrs["schema"] = "other"
    with pytest.raises(UsageError, match=r"not an m2hf\.similarity file"):
        SimilarityFile.read(copy)
    copy.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="damaged similarity file"):
        SimilarityFile.read(copy)


@pytest.fixture
def whole(file: SimilarityFile, tmp_path: Path) -> Path:
    """A small file with all that one may hold."""
    random = np.random.default_rng(0)
    bank = {"visual": random.random((3, 20), dtype=np.float32)}
    scores = random.random((20, 20), dtype=np.float32)
    closed = {"zero_shot": Baseline(scores, np.ones(20, np.bool_), None, 5.0)}
    path = tmp_path / "whole.h5"
    replace(file, bank=bank, baselines=closed).write(path)
    return path


def test_version_2_which_had_no_seal_is_readable_for_ever(whole: Path) -> None:
    sealed = SimilarityFile.read(whole)
    old = SimilarityFile.read(unsealed(whole, 2))
    assert (old.config, old.streams, old.query_ids) == (
        sealed.config, sealed.streams, sealed.query_ids,
    )  # fmt: skip
    assert old.baselines["zero_shot"].val_recall == 5.0


def test_no_flipped_byte_is_believed(whole: Path, tmp_path: Path) -> None:
    assert missed_flips(whole, SimilarityFile.read, 500, 0, tmp_path / "flipped.h5") == []


def test_mutations_of_a_file_without_seal_are_read_or_refused_in_one_line(
    whole: Path, tmp_path: Path
) -> None:
    unsealed(whole, 2)
    accepted = []
    for name, mutate in mutations(whole):
        path = Path(shutil.copy(whole, tmp_path / "a.h5"))
        with h5py.File(path, "r+") as stored:
            mutate(stored)
        with refused_in_one_line(UsageError, f"{path}: "):
            SimilarityFile.read(path)
            if name.startswith(("config", "streams")):
                SimilarityTable().build([path])
            accepted.append(name)
    # Other text, and other numbers, where some are expected: only a seal can tell.
    texts = {"benchmark", "checkpoint", "dataset", "manifest", "split", "trained_on", "config"}
    others = {name for name in accepted if name.partition(": ")[0] not in texts}
    matrices = {f"{name}: negative" for name in h5_matrices(whole)}
    assert others == {"bank/visual: deleted", "bank/visual: one row fewer", *matrices}


def h5_matrices(path: Path) -> set[str]:
    with h5py.File(path) as file:
        return {
            f"{group}/{name}" for group in ("scores", "bank", "baselines") for name in file[group]
        }
