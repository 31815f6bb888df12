"""Frames are preprocessed as by open_clip's own preprocessing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.clip import FrameEncoder, FrameEncoderSession
from m2hf.extract.media.decode import decode
from m2hf.extract.media.views import FrameView
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.preprocessing import ImageTower

TINY = Encoder(model="m2hf-tiny", pretrained="")
LEVELS = 2  # of 255: how far 8-bit resizing by torch may be from Pillow's


def tower(resize: Any = "torch", precision: Any = "float32", encoder: Encoder = TINY) -> Any:
    return ImageTower(encoder, "cpu", precision, resize)


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_pillow_is_open_clips_own_preprocessing_to_the_last_bit() -> None:
    frames = noise(3, 90, 160, 3)
    own = torch.stack([TINY.open("cpu").preprocess(Image.fromarray(frame)) for frame in frames])
    with torch.inference_mode():
        expected = TINY.open("cpu").model.encode_image(own)
        pillow = tower("pillow")
        prepared = torch.from_numpy(pillow.prepare(frames))
        got = pillow.forward(prepared)
    seen = pillow._preprocessing.normalise(prepared)
    torch.testing.assert_close(seen, own, rtol=0, atol=0)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(90, 160), (480, 640), (641, 359), (40, 50), (64, 64)])
def test_torch_resizes_like_pillow_within_two_levels(size: tuple[int, int]) -> None:
    frames = noise(2, *size, 3)
    by_torch, by_pillow = tower("torch").prepare(frames), tower("pillow").prepare(frames)
    assert by_torch.shape == by_pillow.shape == (2, 3, 64, 64)
    assert np.abs(by_torch.astype(int) - by_pillow.astype(int)).max() <= LEVELS


def test_torch_resizes_real_frames_like_pillow(shared_data: Path) -> None:
    view = FrameView(fps=1.0, max_side=640)
    for name in ("video0.mp4", "video7202.mp4"):
        frames = decode(shared_data / "clips" / name, views=(view,)).frames(view)
        assert frames is not None
        by_torch = tower("torch").prepare(frames.pixels).astype(int)
        far = np.abs(by_torch - tower("pillow").prepare(frames.pixels))
        assert far.max() <= LEVELS
        assert far.mean() < 0.01


def test_bfloat16_must_give_the_same_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = tower().prepare(noise(4, 90, 160, 3))
    with torch.inference_mode():
        whole = tower().forward(torch.from_numpy(frames))
        half = tower(precision="bfloat16").forward(torch.from_numpy(frames))
    assert half.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(whole, half.float())
    assert 0.999 < cosine.min() < 1.0
    monkeypatch.setattr("m2hf.extract.networks.preprocessing._MIN_COSINE", 0.9999999)
    with pytest.raises(ResourceError, match=r"bfloat16.*cosine of m2hf-tiny's vectors"):
        tower(precision="bfloat16")


def test_a_preprocessing_that_torch_cannot_do_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from open_clip.transform import CenterCropOrPad

    steps = TINY.open("cpu").preprocess.transforms
    monkeypatch.setattr(
        TINY.open("cpu").preprocess, "transforms", [steps[0], CenterCropOrPad(64), *steps[2:]]
    )
    with pytest.raises(ConfigError, match="set it to 'pillow'"):
        tower("torch")
    assert tower("pillow").prepare(noise(1, 70, 80, 3)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frames_vector_does_not_depend_on_what_else_is_in_its_batch(precision: Any) -> None:
    session: Any = FrameEncoder(encoder=TINY, batch=8, precision=precision).open("cpu")
    assert isinstance(session, FrameEncoderSession)
    clips = {str(i): session._tower.prepare(noise(n, 64, 64, 3)) for i, n in enumerate((3, 9, 6))}
    alone = {}
    for name, rows in clips.items():
        session.queue.add(name, rows)
        while session.queue.waiting:
            alone |= session.queue.advance()
    together = {}
    for name in reversed(clips):
        session.queue.add(name, clips[name])
    while session.queue.waiting:
        together |= session.queue.advance()
    for name in clips:
        np.testing.assert_array_equal(alone[name], together[name])
