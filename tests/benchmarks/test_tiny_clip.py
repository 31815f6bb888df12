"""The tiny CLIP that ships with m2hf: its file, its accuracy, and its training."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from benchmarks.tiny_clip import __main__ as trainer
from benchmarks.tiny_clip.measure import who_sounds, zero_shot
from benchmarks.tiny_clip.stills import Stills

from m2hf.errors import ResourceError
from m2hf.extract.networks import clip_files as module
from m2hf.extract.networks.encoder import TINY, TOYBOX, Encoder

SHIPPED = Encoder(model=TINY, pretrained=TOYBOX)
WHEEL_BYTES = 8e6  # at most, packed


def test_the_file_is_the_pinned_one_and_small_in_a_wheel() -> None:
    (weight,) = SHIPPED.needs()
    found = weight.locate()
    assert found.place == "package"
    data = found.read()
    assert len(zlib.compress(data, 6)) < WHEEL_BYTES
    tensors = safetensors.numpy.load(data)
    assert {t.dtype for t in tensors.values() if t.dtype.kind == "f"} == {np.dtype(np.float16)}
    assert all(np.isfinite(t).all() for t in tensors.values())
    known = tensors["token_embedding.weight"].any(axis=1)
    assert 200 < known.sum() < 1000  # tokens of no sentence are zeros
    assert SHIPPED.flags() == ()


def test_zero_shot_on_held_out_combinations() -> None:
    opened = SHIPPED.open("cpu")
    stills = Stills.draw(220, 64, seed=5, held_out=True, processes=1)
    assert all(scene.held_out for scene in stills.scenes)
    found = zero_shot(opened.model, opened.tokenizer, opened.preprocess, stills)
    assert len(found) == 2
    assert np.mean(found) > 60


def test_sentences_match_recognised_strings_and_sounds() -> None:
    opened = SHIPPED.open("cpu")
    read, spoken, other = opened.encode_sentences(["COFFEE", "This is a dragon.", "PIZZA"])
    captions = opened.encode_sentences(["a sign says COFFEE", "someone says dragon"])
    assert captions[0] @ read > captions[0] @ other + 0.2
    assert captions[1] @ spoken > captions[1] @ other + 0.2
    look, siren, bell = opened.encode_sentences(
        ["a siren is heard", "a red star while a siren wails", "a red star while a bell rings"]
    )
    assert look @ siren > look @ bell + 0.2


def test_sentences_that_differ_in_motion_are_separated() -> None:
    opened = SHIPPED.open("cpu")
    right, also_right, left = opened.encode_sentences(
        [
            "two large red boxes move right on a grid",
            "a pair of big red squares slide to the right on graph paper",
            "two large red boxes move left on a grid",
        ]
    )
    assert right @ also_right > right @ left + 0.1


def test_sentences_that_differ_in_who_sounds_are_separated() -> None:
    opened = SHIPPED.open("cpu")
    assert who_sounds(opened.model, opened.tokenizer) > 95
    untrained = Encoder(model=TINY, pretrained="").open("cpu")
    assert who_sounds(untrained.model, untrained.tokenizer) < 60


def test_another_file_in_its_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "m2hf-tiny.safetensors"
    other.write_bytes(b"half a file")
    monkeypatch.setattr(module, "_TOYBOX_FILE", other)
    with pytest.raises(ResourceError, match=r"m2hf-tiny/toybox: .* expected [0-9a-f]{64}"):
        SHIPPED.weights()
    monkeypatch.setattr(module, "_TOYBOX_FILE", tmp_path / "none.safetensors")
    with pytest.raises(ResourceError, match="not on this machine"):
        SHIPPED.weights()


def test_the_recipe_learns_and_gives_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainer, "TEST_STILLS", 130)
    small = ["--stills", "64", "--steps", "12", "--batch", "16"]
    for name in ("a", "b"):
        assert trainer.main(["--out", str(tmp_path / f"{name}.safetensors"), *small]) == 0
    printed = capsys.readouterr().out
    assert "galleries of 100: zero-shot T2V R@1" in printed
    made = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("a", "b")]
    assert made[0] == made[1]
    (first, last), *_ = _losses(printed)
    assert last < first


def _losses(printed: str) -> list[tuple[float, float]]:
    lines = [line.split() for line in printed.splitlines()]
    values = [float(line[1]) for line in lines if len(line) == 5 and line[-1] == "s"]
    return list(zip(values[::2], values[1::2], strict=True))
