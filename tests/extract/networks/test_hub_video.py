"""Video networks of transformers from folders as published: the library's own vectors."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2hf.errors import ConfigError, M2hfError
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.frames import Frames
from m2hf.extract.motion import Motion
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.hub_video import TABLE, VideoArchitecture

PUBLISHED = {  # architecture -> the class of the published checkpoints, D, frames, fps
    "videomae": ("VideoMAEForVideoClassification", 768, 16, 7.5),
    "timesformer": ("TimesformerForVideoClassification", 768, 8, 1.0),
    "vjepa2": ("VJEPA2Model", 1024, 64, 4.0),
    "xclip": ("XCLIPModel", 512, 8, 1.0),
}
ROWS = {row.architecture.model_type: row for row in TABLE}


def names(row: VideoArchitecture) -> tuple[str, str]:
    """The published name and the tiny one."""
    published, tiny = row.architecture.untrained
    return published, tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each architecture, with random weights and constants of its own."""
    import_torchvision()
    import transformers

    root: Path = tmp_path_factory.mktemp("videos")
    for kind, row in ROWS.items():
        torch.manual_seed(2)
        config = row.architecture.configuration(names(row)[1], ())
        getattr(transformers, PUBLISHED[kind][0])(config).save_pretrained(root / kind)
        constants = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
        square = {"height": 32, "width": 32}
        processor = getattr(transformers, row.processor)(
            size={"shortest_edge": 36}, crop_size=square, **constants
        )
        processor.save_pretrained(root / kind)
    return {kind: root / kind for kind in ROWS}


def clip(declared: Motion, seconds: float, fps: float = 25.0) -> DecodedClip:
    start_s = np.arange(round(seconds * fps)) / fps
    pixels = np.random.default_rng(0).integers(0, 256, (len(start_s), 40, 60, 3), np.uint8)
    frames = Frames(pixels, start_s, start_s + 1 / fps)
    return DecodedClip(seconds, "0" * 64, {declared.view: frames}, Absent("no audio stream"))


@pytest.mark.parametrize("kind", ROWS)
def test_a_folder_gives_what_transformers_gives(folders: dict[str, Path], kind: str) -> None:
    import transformers

    row, folder = ROWS[kind], folders[kind]
    declared = Motion(model="someone/a-network", pretrained=str(folder))
    seen = clip(declared, 4 / row.fps)
    session = declared.open("cpu")
    made = session.extract(seen)
    assert made.values.shape == (1, declared.width)
    frames = seen.frames(declared.view)
    assert isinstance(frames, Frames)
    chosen = [frames.pixels[int((n + 0.5) / row.fps * 25 + 1e-9)] for n in range(4)]
    processor = getattr(transformers, row.processor).from_pretrained(folder)
    (inputs,) = processor(chosen, return_tensors="pt").values()
    inputs = inputs.reshape(1, 4, 3, 32, 32)
    np.testing.assert_allclose(session._prepare(np.stack(chosen)), inputs[0], atol=1e-5)
    network = getattr(transformers, PUBLISHED[kind][0]).from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = {
            "videomae": lambda: network.videomae(inputs).last_hidden_state.mean(1),
            "timesformer": lambda: network.timesformer(inputs).last_hidden_state[:, 0],
            "vjepa2": lambda: network(inputs, skip_predictor=True).last_hidden_state.mean(1),
            "xclip": lambda: network.get_video_features(inputs).pooler_output,
        }[kind]()
    np.testing.assert_allclose(made.values, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ROWS)
def test_the_published_architecture_has_the_published_sizes(kind: str) -> None:
    row = ROWS[kind]
    _, width, frames, fps = PUBLISHED[kind]
    declared = Motion(model=names(row)[0], pretrained="")
    assert (declared.width, declared.window().frames, declared.view.fps) == (width, frames, fps)
    config = row.architecture.configuration(names(row)[0], ())
    side = 256 if kind == "vjepa2" else 224
    with torch.device("meta"), torch.inference_mode():
        network = row.architecture.load(config, (), 0, "meta")
        assert row.pooled(network, torch.zeros(2, frames, 3, side, side)).shape == (2, width)


@pytest.mark.parametrize("kind", ROWS)
def test_windows_cover_the_clip(kind: str) -> None:
    declared = Motion(model=names(ROWS[kind])[1], pretrained="", fps=8.0, overlap=0.5)
    made = declared.open("cpu").extract(clip(declared, 1.2))
    assert made.start_s.tolist() == pytest.approx([0, 0.25, 0.5, 0.75])
    assert made.end_s.tolist() == pytest.approx([0.5, 0.75, 1.0, 1.2])
    assert declared.flags() == ("untrained",)


def test_frames_are_those_that_the_network_reads() -> None:
    vjepa = Motion(model="m2hf-tiny-vjepa2", pretrained="", frames=8)
    assert vjepa.window().frames == 8
    assert vjepa.open("cpu").extract(clip(vjepa, 2.0)).values.shape == (1, 48)
    for model, frames, message in (
        ("m2hf-tiny-vjepa2", 5, "frames = 5: m2hf-tiny-vjepa2 reads 2 to 256, a multiple of 2"),
        ("m2hf-tiny-videomae", 8, "frames = 8: m2hf-tiny-videomae reads 4"),
    ):
        with pytest.raises(ConfigError, match=message):
            Motion(model=model, pretrained="", frames=frames).open("cpu")
    with pytest.raises(ValueError, match="expected 16 to 32"):
        Motion(frames=33)


def test_the_fingerprint_is_of_the_files_and_not_of_their_place(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(folders["xclip"], tmp_path / "moved"))
    model = "someone/a-network"
    base = Motion(model=model, pretrained=str(folders["xclip"])).fingerprint()
    assert Motion(model=model, pretrained=str(moved)).fingerprint() == base
    for path in moved.glob("*config.json"):
        path.write_bytes(path.read_bytes() + b" ")
        assert Motion(model=model, pretrained=str(moved)).fingerprint() != base


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"model_type": "bert"}, "type 'bert', expected one of 'videomae', 'times"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected"),
        ("config.json", {"hidden_size": 64}, "not a VideoMAE checkpoint that fits its config.js"),
        ("preprocessor_config.json", {"crop_size": {"height": 16, "width": 16}}, r"\[3, 16, 16\]"),
    ],
)
def test_other_folders_are_one_clear_line(
    folders: dict[str, Path], tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(folders["videomae"], tmp_path / "damaged"))
    values = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**values, **change}), encoding="utf-8")
    with pytest.raises(M2hfError, match=message) as raised:
        Motion(model="someone/a-network", pretrained=str(folder)).open("cpu")
    assert "\n" not in str(raised.value)


def test_a_name_that_no_network_has_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="'s3dd': expected r2plus1d_18, s3d, or the name of one"):
        Motion(model="s3dd").weights()
    with pytest.raises(ConfigError, match="with random weights, expected one of MCG-NJU"):
        Motion(model="s3dd", pretrained="").open("cpu")
