"""Video networks of transformers: VideoMAE, V-JEPA 2, TimeSformer and X-CLIP.

B windows of F frames, side S of the network's input, N tokens, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.networks import hub_model
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.hub_model import TRANSFORMER, Architecture, Files
from m2hf.extract.networks.video_networks import (
    NETWORKS,
    LoadedVideoNetwork,
    TorchvisionVideo,
    VideoNetworkByName,
    VideoWindow,
)
from m2hf.extract.weights.checked import loading_folder
from m2hf.extract.weights.repository import Repository, by_name
from m2hf.extract.weights.weight import Weight

_SETTING = "extract.motion"
_SIZE_MB = 400
_MAX_SIDE = 480  # of decoded frames: enough for a short side of 256 at 16 to 9
_MOST_FRAMES = 256
_GET = (
    "set extract.motion.pretrained to a folder as transformers saves it; without weights, use flow "
    "in place of motion (see --config offline)"
)
_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@dataclass(frozen=True, eq=False)
class VideoArchitecture:
    """One row of the table: what differs between the networks."""

    architecture: Architecture
    fps: float
    """Frames per second in training."""
    frames: str
    """Key of the configuration with the frames of a window."""
    any_frames: bool
    """Whether it reads other numbers of frames, too: its positions are not learned."""
    side: str
    """Key with the side of its input in pixels."""
    processor: str
    """transformers' class of the preprocessing."""
    pooled: Callable[[Any, Any], Any]
    """(network, frames (B, F, 3, S, S)) -> (B, D)."""


def _mean(network: Any, frames_BFCSS: Any) -> Any:
    return network(frames_BFCSS).last_hidden_state.mean(dim=1)


def _class_token(network: Any, frames_BFCSS: Any) -> Any:
    return network(frames_BFCSS).last_hidden_state[:, 0]


def _encoder_mean(network: Any, frames_BFCSS: Any) -> Any:
    return network.get_vision_features(frames_BFCSS).mean(dim=1)


def _video_vector(network: Any, frames_BFCSS: Any) -> Any:
    return network.get_video_features(frames_BFCSS).pooler_output


VIDEOMAE = VideoArchitecture(
    Architecture(
        model_type="videomae",
        title="a VideoMAE",
        config="VideoMAEConfig",
        network="VideoMAEModel",
        untrained={
            "MCG-NJU/videomae-base-finetuned-kinetics": {},
            "m2hf-tiny-videomae": {**_SMALL, "image_size": 32, "num_frames": 4},
        },
        most={**TRANSFORMER, "image_size": 1 << 11, "num_frames": _MOST_FRAMES},
    ),
    fps=7.5,  # every fourth frame of Kinetics' 30 a second
    frames="num_frames",
    any_frames=False,
    side="image_size",
    processor="VideoMAEImageProcessor",
    pooled=_mean,
)
TIMESFORMER = VideoArchitecture(
    Architecture(
        model_type="timesformer",
        title="a TimeSformer",
        config="TimesformerConfig",
        network="TimesformerModel",
        untrained={
            "facebook/timesformer-base-finetuned-k400": {},
            "m2hf-tiny-timesformer": {**_SMALL, "image_size": 32, "num_frames": 4},
        },
        most={**TRANSFORMER, "image_size": 1 << 11, "num_frames": _MOST_FRAMES},
    ),
    fps=1.0,  # every 32nd frame
    frames="num_frames",
    any_frames=False,
    side="image_size",
    processor="VideoMAEImageProcessor",
    pooled=_class_token,
)
VJEPA2 = VideoArchitecture(
    Architecture(
        model_type="vjepa2",
        title="a V-JEPA 2",
        config="VJEPA2Config",
        network="VJEPA2Model",
        untrained={
            "facebook/vjepa2-vitl-fpc64-256": {},
            "m2hf-tiny-vjepa2": {
                "hidden_size": 48,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "pred_hidden_size": 24,
                "pred_num_hidden_layers": 1,
                "pred_num_attention_heads": 1,
                "crop_size": 32,
                "frames_per_clip": 4,
            },
        },
        most={
            "hidden_size": 1 << 14,
            "num_hidden_layers": 1 << 8,
            "num_attention_heads": 1 << 10,
            "pred_hidden_size": 1 << 14,
            "pred_num_hidden_layers": 1 << 8,
            "crop_size": 1 << 11,
            "frames_per_clip": _MOST_FRAMES,
        },
    ),
    fps=4.0,
    frames="frames_per_clip",
    any_frames=True,
    side="crop_size",
    processor="VJEPA2VideoProcessor",
    pooled=_encoder_mean,
)
X_CLIP = VideoArchitecture(
    Architecture(
        model_type="xclip",
        title="an X-CLIP",
        config="XCLIPConfig",
        network="XCLIPModel",
        untrained={
            "microsoft/xclip-base-patch32": {},
            "m2hf-tiny-xclip": {
                "projection_dim": 24,
                "text_config": {**_SMALL, "vocab_size": 99, "eos_token_id": 2},
                "vision_config": {
                    **_SMALL,
                    "image_size": 32,
                    "num_frames": 4,
                    "mit_hidden_size": 24,
                    "mit_intermediate_size": 48,
                    "mit_num_attention_heads": 2,
                },
            },
        },
        part="vision_config",
        most={**TRANSFORMER, "image_size": 1 << 11, "num_frames": _MOST_FRAMES},
    ),
    fps=1.0,  # eight frames of a clip of Kinetics
    frames="num_frames",
    any_frames=False,
    side="image_size",
    processor="CLIPImageProcessor",
    pooled=_video_vector,
)
TABLE = (VIDEOMAE, TIMESFORMER, VJEPA2, X_CLIP)


@dataclass(frozen=True)
class HubVideo:
    """A network of TABLE by its name on the hub, or in a folder."""

    model: str

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        if path is None and "/" not in self.model:
            raise ConfigError(
                f"{_SETTING}.model = {self.model!r}: expected r2plus1d_18, s3d, or the name of "
                "one of these on the hub: VideoMAE, V-JEPA 2, TimeSformer, X-CLIP"
            )
        return hub_model.needs(Repository(self.model, f"{_SETTING}.model", path, _GET), _SIZE_MB)

    def width(self, files: Files) -> int:
        row, config = self._configured(files)
        return int(config.projection_dim if row is X_CLIP else config.hidden_size)

    def window(self, files: Files) -> VideoWindow:
        row, config = self._configured(files)
        own = int(getattr(_vision(row, config), row.frames))
        tubelet = int(getattr(config, "tubelet_size", 1))
        least, most = (tubelet, _MOST_FRAMES) if row.any_frames else (own, own)
        return VideoWindow(row.fps, own, least, most, tubelet)

    @property
    def scaling(self) -> dict[str, Any]:
        return {"max_side": _MAX_SIDE}

    def load(self, files: Files, seed: int, device: str) -> LoadedVideoNetwork:
        row, config = self._configured(files)
        network = row.architecture.load(config, files, seed, device)
        processor = _processor(row, config, files)
        side = int(getattr(_vision(row, config), row.side))

        def prepare(pixels_FHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
            (made,) = processor(list(pixels_FHW3), return_tensors="np").values()
            frames: NDArray[np.float32] = np.asarray(made, np.float32)
            return frames.reshape(len(pixels_FHW3), *frames.shape[-3:])

        shape = prepare(np.zeros((2, side, side, 3), np.uint8)).shape[1:]
        if shape != (3, side, side):
            raise ResourceError(
                f"weights {files[2].paths[0]}: it makes frames of {[*shape]}, expected "
                f"{[3, side, side]} as {row.side} of {files[1].paths[0].name} says"
            )
        return LoadedVideoNetwork(prepare, lambda frames: row.pooled(network, frames))

    def _configured(self, files: Files) -> tuple[VideoArchitecture, Any]:
        table = tuple(row.architecture for row in TABLE)
        chosen = hub_model.choose(table, self.model, files, _SETTING)
        return TABLE[table.index(chosen)], chosen.configuration(self.model, files)


def _vision(row: VideoArchitecture, config: Any) -> Any:
    """The configuration of the video tower."""
    return getattr(config, row.architecture.part) if row.architecture.part else config


def _processor(row: VideoArchitecture, config: Any, files: Files) -> Any:
    """The library's own preprocessing with the constants of the files."""
    import_torchvision()
    import transformers

    made: Any = getattr(transformers, row.processor)
    if files:
        kind = f"the preprocessing of {row.architecture.title}"
        with loading_folder(by_name((files[2],)), kind) as folder:
            return made.from_pretrained(str(folder), local_files_only=True)
    side = int(getattr(_vision(row, config), row.side))
    square = {"height": side, "width": side}
    return made(size={"shortest_edge": side}, crop_size=square)


def named(model: str) -> VideoNetworkByName:
    """The network that `model` names: torchvision's, or else one of transformers."""
    return TorchvisionVideo(model) if model in NETWORKS else HubVideo(model)


@cache
def load(model: str, files: Files, seed: int, device: str) -> LoadedVideoNetwork:
    """VideoNetworkByName.load, cached in the process."""
    return named(model).load(files, seed, device)
