"""Checkpoints: they read back, and refuse a store they don't belong to."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors
import safetensors.torch
import torch
from byte_flips import missed_flips
from hypothesis import HealthCheck, given, settings
from mutations import mutated_json, refused_in_one_line

from m2hf.config import parse
from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig, ModelConfig
from m2hf.fuse.evaluation.evaluate import evaluate, resolve
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import Level
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.layout import StoreLayout
from m2hf.shard import Shard


def test_it_reads_back(corpus: Any, run: Any, config: FusionConfig, tmp_path: Path) -> None:
    store = FeatureStore.open(corpus.store, "synthetic", config)
    model, header = checkpoint.load(run.summary.checkpoint, store)
    assert header.config == config
    assert header.streams == store.info
    assert header.streams["audio"].flags == ("untrained",)
    assert header.manifest == corpus.manifest.digest
    assert header.dataset == "synthetic"
    assert header.epoch == run.summary.best_epoch
    checkpoint.save(tmp_path / "again", model, header)
    assert (tmp_path / "again").read_bytes() == run.summary.checkpoint.read_bytes()


def rewrite(root: Path, corpus: Any, write_stream: Any, width: int) -> None:
    """Replace the audio stream by one of another config and `width`."""
    layout = StoreLayout(root, "synthetic")
    folder = layout.folder / layout.find_stream("audio")
    items: dict[str, Features] = {}
    for path in list(layout.shards(folder.name)):
        for item in Shard.open(path).items():
            f = item.features
            values = f.values[:, :width]
            items[item.id] = Features(values, f.start_s, f.end_s, reason=f.reason)
        path.unlink()
    folder.rmdir()
    write_stream(root, "audio", items, width, fingerprint="c" * 64)


@pytest.mark.parametrize("width", [12, 7])
def test_another_stream_is_one_clear_line(
    new_corpus: Callable[[Path], Any], write_stream: Any, run: Any, tmp_path: Path, width: int
) -> None:
    corpus = new_corpus(tmp_path)
    rewrite(tmp_path, corpus, write_stream, width)
    with pytest.raises(MismatchError) as caught:
        evaluate(corpus.manifest, corpus.store, run.folder)
    line = str(caught.value)
    assert "\n" not in line
    assert "stream audio: trained on audio@" in line
    assert f"the store has audio@cccccccc of width {width}" in line
    assert "train again" in line


def test_other_levels_or_sizes_are_refused(corpus: Any, run: Any, config: FusionConfig) -> None:
    fewer = FusionConfig(levels={"text": Level(stream="text", enabled=False)}, model=config.model)
    with pytest.raises(MismatchError, match=r"other fuse\.levels"):
        evaluate(corpus.manifest, corpus.store, run.folder, fewer)
    with pytest.raises(MismatchError, match=r"other fuse\.model"):
        evaluate(corpus.manifest, corpus.store, run.folder, FusionConfig(model=ModelConfig()))


def test_a_config_may_say_where_to_run(corpus: Any, run: Any) -> None:
    here = FusionConfig(device="cpu", streams={"audio": "audio"})
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, run.folder, here))
    assert file.config["model"]["width"] == 32
    with pytest.raises(UsageError, match="no features of 'sound'"):
        evaluate(
            corpus.manifest, corpus.store, run.folder, FusionConfig(streams={"audio": "sound"})
        )


def test_broken_files_are_named(corpus: Any, run: Any, tmp_path: Path) -> None:
    path = RunFolder(tmp_path).checkpoint
    with pytest.raises(UsageError, match="no checkpoint"):
        evaluate(corpus.manifest, corpus.store, tmp_path)
    whole = run.summary.checkpoint.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged checkpoint"):
        checkpoint.read_header(path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="not a checkpoint of m2hf"):
        checkpoint.read_header(path)
    path.write_bytes(whole.replace(b'\\"version\\":4', b'\\"version\\":9'))
    with pytest.raises(UsageError, match="schema version 9, this m2hf reads 1 to 4"):
        checkpoint.read_header(path)


def test_no_flipped_byte_is_believed(run: Any, tmp_path: Path) -> None:
    path, scratch = run.summary.checkpoint, tmp_path / "flipped.safetensors"
    assert missed_flips(path, checkpoint.read_header, 500, 0, scratch) == []


def test_version_1_is_readable_for_ever(
    corpus: Any, run: Any, config: FusionConfig, tmp_path: Path
) -> None:
    """It had no digest, and no late rule but affine was fitted."""
    with safetensors.safe_open(run.summary.checkpoint, framework="pt") as file:
        about = json.loads(file.metadata()[checkpoint.SCHEMA])
        named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors = {
        name.replace("late_fusions.affine", "late"): tensor
        for name, tensor in named.items()
        if "late_fusions.mention" not in name
    }
    del about["file_sha256"]
    metadata = {checkpoint.SCHEMA: json.dumps(about | {"version": 1})}
    safetensors.torch.save_file(tensors, tmp_path / "old", metadata=metadata)
    store = FeatureStore.open(corpus.store, "synthetic", config)
    old, header = checkpoint.load(tmp_path / "old", store)
    new, same = checkpoint.load(run.summary.checkpoint, store)
    assert header == replace(same, fitted=("affine",))
    read, written = old.state_dict(), new.state_dict()
    assert read.keys() == written.keys()
    differs = {name for name in read if not torch.equal(read[name], written[name])}
    slopes = [f"mention.{n}_L" for n in ("slope", "bias", "offset")]
    mixture = [f"mention_mixture.{n}_L" for n in ("slope", "bias", "offset")]
    mixture += [f"mention_mixture.mixture_{n}_L" for n in ("slope", "offset")]
    assert differs == {f"late_fusions.{name}" for name in (*slopes, *mixture)}
    mention = parse(FusionConfig, {"late": {"rule": "mention"}})
    with pytest.raises(MismatchError, match=r"without the late rule mention, .*late\.rule=affine"):
        resolve(tmp_path / "old", header, mention)
    metadata = {checkpoint.SCHEMA: json.dumps(about)}
    safetensors.torch.save_file(tensors, tmp_path / "bare", metadata=metadata)
    with pytest.raises(UsageError, match="damaged checkpoint"):
        checkpoint.read_header(tmp_path / "bare")


def test_version_3_has_no_fit_of_the_mixture(
    corpus: Any, run: Any, config: FusionConfig, tmp_path: Path
) -> None:
    store = FeatureStore.open(corpus.store, "synthetic", config)
    new, header = checkpoint.load(run.summary.checkpoint, store)
    fits = {n: x.clone() for n, x in new.state_dict().items() if "mixture" not in n}
    del new.late_fusions["mention_mixture"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 3)
        checkpoint.save(tmp_path / "old", new, header)
    old, read = checkpoint.load(tmp_path / "old", store)
    assert read == replace(header, fitted=("mention", "affine"))
    found = old.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in fits.items())
    mixture = found["late_fusions.mention_mixture.centre_L"]
    assert torch.equal(mixture, found["late_fusions.mention.centre_L"])
    given = parse(FusionConfig, {"late": {"rule": "mention_mixture"}})
    with pytest.raises(MismatchError, match=r"rule mention_mixture, .*late\.rule=mention,"):
        resolve(tmp_path / "old", read, given)


@pytest.mark.parametrize("version", [1, 2])
def test_a_setting_that_a_file_is_older_than_keeps_its_old_meaning(
    corpus: Any, config: FusionConfig, tmp_path: Path, version: int
) -> None:
    sizes = config.model.model_copy(update={"standardise": False, "projection": "adapted"})
    old = config.model_copy(update={"model": sizes, "project": ("frames",)})
    store = FeatureStore.open(corpus.store, "synthetic", old)
    model = M2HF(old, {role: info.width for role, info in store.info.items()})
    header = checkpoint.CheckpointHeader(old, store.info, "synthetic", "0" * 64, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", version)
        dump = FusionConfig.model_dump
        unknown = {"model": {"standardise", "projection", "input_dropout"}}
        patch.setattr(FusionConfig, "model_dump", lambda c, **_: dump(c, exclude=unknown))
        checkpoint.save(tmp_path / "old", model, header)
    found, read = checkpoint.load(tmp_path / "old", store)
    assert read.config.model == old.model
    assert set(found.state_dict()) == set(model.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_BEFORE", {})
        with pytest.raises(UsageError, match="its weights don't match its config"):
            checkpoint.load(tmp_path / "old", store)


def test_old_meanings_are_values_of_settings() -> None:
    config: dict[str, Any] = {}
    checkpoint._complete(config)
    FusionConfig.model_validate(config)
    for setting in checkpoint._BEFORE:
        section, name = setting.split(".")
        assert config[section][name] == checkpoint._BEFORE[setting]
    assert config != FusionConfig().model_dump(include={"model": set(config["model"])})


HEADER = {
    "schema": checkpoint.SCHEMA, "version": 1, "config": {}, "dataset": "set", "epoch": 3,
    "manifest": "0" * 64, "libraries": {"m2hf": "1"},
    "streams": {
        role: {"name": f"{role}@cccccccc", "fingerprint": "c" * 64, "width": 8, "flags": ["a"]}
        for role in FusionConfig().roles
    },
}  # fmt: skip


def write_header(path: Path, text: str) -> Path:
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, metadata={checkpoint.SCHEMA: text})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": "3"}, "epoch = '3'"),
        ({"epoch": -1}, "epoch = -1"),
        ({"dataset": None}, "dataset = None"),
        ({"streams": {}}, "streams of no role, expected those that its config reads"),
        ({"streams": []}, r"streams = \[\]"),
        ({"config": {"model": {"width": 0}}}, "model.width = 0"),
        ({"version": True}, "schema version True"),
    ],
)
def test_a_malformed_header_is_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_header(tmp_path / "c.safetensors", json.dumps({**HEADER, **changes}))
    with pytest.raises(UsageError, match=rf"c\.safetensors: .*{message}"):
        checkpoint.read_header(path)


@given(mutated_json(HEADER))
@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_to_the_header_is_an_error_of_one_line_or_a_header(
    tmp_path: Path, data: bytes
) -> None:
    path = write_header(tmp_path / "c.safetensors", data.decode(errors="replace"))
    with refused_in_one_line(UsageError, "c.safetensors: "):
        header = checkpoint.read_header(path)
        assert set(header.streams) == set(header.config.roles)
        assert all(str(info) for info in header.streams.values())


@given(mutated_json({"a": [1, {"b": 2}]}))
@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_in_place_of_a_checkpoint_are_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data)
    with pytest.raises(UsageError) as caught:
        checkpoint.read_header(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_has_the_mode_that_the_umask_gives(run: Any) -> None:
    os.umask(umask := os.umask(0))
    assert stat.S_IMODE(run.summary.checkpoint.stat().st_mode) == 0o666 & ~umask


def test_a_checkpoint_without_read_permission_is_not_called_damaged(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_found(*_: object, **__: object) -> NoReturn:  # what safetensors raises then
        raise FileNotFoundError("No such file or directory")

    def denied(*_: object) -> NoReturn:
        raise PermissionError("no")

    monkeypatch.setattr("safetensors.safe_open", not_found)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UsageError, match=r"^permission denied: .*\.safetensors: this user"):
        checkpoint.read_header(run.summary.checkpoint)
