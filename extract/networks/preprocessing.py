"""Frames to vectors of the CLIP joint space, with the preprocessing of the model's own.

Frames are resized and cropped as 8-bit images, by Pillow or by torch, and copied to the device as
such; normalisation runs there. F frames of (H, W), S the side of the network's input.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.inference.precision import AUTO, Precision
from m2hf.extract.networks.encoder import Encoder

Resize = Literal["torch", "pillow"]
_MIN_COSINE = 0.999
_PROBES = 4


class Preprocessing:
    """What a network does to an image before it reads it: resize, crop, normalise."""

    def __init__(self, steps: Sequence[Any], resize: Resize, model: str, extractor: str) -> None:
        """steps: transforms of torchvision; model, extractor: for messages, such as
        "encoder.model = 'ViT-B-32'" and "extract.clip".

        Raises ConfigError for steps that `resize` can't reproduce.
        """
        from torchvision import transforms

        skipped = {"MaybeConvertMode", "MaybeToTensor"}  # frames are RGB; see normalise for tensors
        kept = [s for s in steps if type(s).__name__ not in skipped]
        if not (kept and isinstance(kept[-1], transforms.Normalize)):
            raise ConfigError(
                f"{model}: its preprocessing is not supported, expected one that ends with "
                "Normalize"
            )
        self._geometry, self._normalise = kept[:-1], kept[-1]
        by_torch = transforms.Resize | transforms.CenterCrop
        if resize == "torch" and not all(isinstance(s, by_torch) for s in self._geometry):
            raise ConfigError(
                f"{extractor}.resize = 'torch': the preprocessing of {model} isn't only resize and "
                "crop; set it to 'pillow'"
            )
        self._resize = resize

    def prepare(self, pixels_FHW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(F, 3, S, S) uint8."""
        import torch
        from PIL import Image

        if self._resize == "torch":
            # A copy, since torch warns of read-only arrays, such as memory-mapped frames.
            tensor: Any = torch.from_numpy(np.array(pixels_FHW3)).permute(0, 3, 1, 2)
            for step in self._geometry:
                tensor = _resized(tensor, step) if hasattr(step, "interpolation") else step(tensor)
            prepared: NDArray[np.uint8] = tensor.contiguous().numpy()
            return prepared
        done = []
        for frame in pixels_FHW3:
            image: Any = Image.fromarray(frame)
            for step in self._geometry:
                image = step(image)
            done.append(np.asarray(image).transpose(2, 0, 1))
        return np.stack(done)

    def normalise(self, images_B3SS: Any) -> Any:
        """float32 of uint8 images on the device."""
        return self._normalise(images_B3SS.float().div(255))


class ImageTower:
    """The image tower of a CLIP on a device, in a precision.

    Raises ResourceError where bfloat16 gives vectors whose cosine to float32's is at most 0.999,
    ConfigError as `Preprocessing`.
    """

    def __init__(self, encoder: Encoder, device: str, precision: Precision, resize: Resize) -> None:
        opened = encoder.open(device)  # also makes `import torchvision` work: see compat
        self._preprocessing = Preprocessing(
            opened.preprocess.transforms,
            resize,
            f"encoder.model = {encoder.model!r}",
            "extract.clip",
        )
        self.prepare = self._preprocessing.prepare
        self._model: Any = opened.model
        self._dtype: Any = next(opened.model.parameters()).dtype
        self.width = opened.width
        assert precision != AUTO  # a job replaces it
        if precision == "bfloat16":
            self._to_bfloat16(encoder.model, device)

    def forward(self, images_B3SS: Any) -> Any:
        """(B, D) of uint8 images on the device, not L2-normalised."""
        scaled = self._preprocessing.normalise(images_B3SS)
        return self._model.encode_image(scaled.to(self._dtype))

    def _to_bfloat16(self, name: str, device: str) -> None:
        """Use a bfloat16 copy of the model, after a check that it gives the same vectors."""
        import torch

        noise = np.random.default_rng(0).integers(0, 256, (_PROBES, 256, 256, 3), np.uint8)
        probe = torch.from_numpy(self.prepare(noise)).to(device)
        with torch.inference_mode():
            whole = self.forward(probe)
            self._model = copy.deepcopy(self._model).to(torch.bfloat16)
            self._dtype = torch.bfloat16
            half = self.forward(probe).float()
        cosine = float(torch.nn.functional.cosine_similarity(whole, half).min())
        if not cosine > _MIN_COSINE:
            raise ResourceError(
                f"extract.clip.precision = 'bfloat16': on {device} the cosine of {name}'s vectors "
                f"to float32 is {cosine:.5f}, expected above {_MIN_COSINE}; set 'float32'"
            )


def _resized(images: Any, step: Any) -> Any:
    """torchvision's Resize `step` on 8-bit images, as Pillow does, instead of on floats."""
    from torchvision.transforms.v2 import functional

    size = [step.size] if isinstance(step.size, int) else list(step.size)
    return functional.resize(images, size, step.interpolation, step.max_size, antialias=True)
