"""Pictures to vectors of the CLIP joint space, as the model's own preprocessing would have them.

The picture is shrunk and cut as 8-bit colours, by Pillow or by torch, and travels to the device
like that; there it becomes what the network reads. F frames of (H, W), S the network's side.
"""

import copy
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.learned import Precision

Resize = Literal["torch", "pillow"]
_LEAST_COSINE = 0.999
_PROBES = 4


class PictureTower:
    """A CLIP's picture side on a device, in a precision.

    Raises ResourceError where bfloat16 gives vectors whose cosine to float32's is at most 0.999,
    ConfigError for a resize that the model's preprocessing doesn't allow.
    """

    def __init__(self, encoder: Encoder, device: str, precision: Precision, resize: Resize) -> None:
        opened = encoder.open(device)  # which makes torchvision fit to be imported
        from torchvision.transforms import CenterCrop, Normalize
        from torchvision.transforms import Resize as Shrink

        known = {"MaybeConvertMode", "MaybeToTensor"}  # ours are RGB, and become tensors later
        steps = [s for s in opened.preprocess.transforms if type(s).__name__ not in known]
        if not (steps and isinstance(steps[-1], Normalize)):
            raise ConfigError(f"encoder.model = {encoder.model!r}: preprocessing we don't know")
        self._shape, self._normalise = steps[:-1], steps[-1]
        if resize == "torch" and not all(isinstance(s, Shrink | CenterCrop) for s in self._shape):
            raise ConfigError(
                f"extract.clip.resize = 'torch': the preprocessing of {encoder.model} isn't "
                "resize and crop; set it to 'pillow'"
            )
        self._resize = resize
        self._model: Any = opened.model
        self._dtype: Any = next(opened.model.parameters()).dtype
        self.width = opened.width
        if precision == "bfloat16":
            self._lower(encoder.model, device)

    def prepare(self, pixels_FHW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(F, 3, S, S) uint8."""
        import torch
        from PIL import Image

        if self._resize == "torch":
            # A copy, since torch warns of frames that can't be written to, such as mapped ones.
            tensor: Any = torch.from_numpy(np.array(pixels_FHW3)).permute(0, 3, 1, 2)
            for step in self._shape:
                tensor = _shrunk(tensor, step) if hasattr(step, "interpolation") else step(tensor)
            prepared: NDArray[np.uint8] = tensor.contiguous().numpy()
            return prepared
        done = []
        for frame in pixels_FHW3:
            picture: Any = Image.fromarray(frame)
            for step in self._shape:
                picture = step(picture)
            done.append(np.asarray(picture).transpose(2, 0, 1))
        return np.stack(done)

    def forward(self, pictures_B3SS: Any) -> Any:
        """(B, D) of uint8 pictures on the device, not yet of unit length."""
        scaled = self._normalise(pictures_B3SS.float().div(255))
        return self._model.encode_image(scaled.to(self._dtype))

    def _lower(self, name: str, device: str) -> None:
        """Go to bfloat16, with a copy, once it has shown that it gives the same vectors."""
        import torch

        noise = np.random.default_rng(0).integers(0, 256, (_PROBES, 256, 256, 3), np.uint8)
        probe = torch.from_numpy(self.prepare(noise)).to(device)
        with torch.inference_mode():
            whole = self.forward(probe)
            self._model = copy.deepcopy(self._model).to(torch.bfloat16)
            self._dtype = torch.bfloat16
            half = self.forward(probe).float()
        cosine = float(torch.nn.functional.cosine_similarity(whole, half).min())
        if not cosine > _LEAST_COSINE:
            raise ResourceError(
                f"extract.clip.precision = 'bfloat16': on {device} the cosine of {name}'s vectors "
                f"to float32 is {cosine:.5f}, expected above {_LEAST_COSINE}; set 'float32'"
            )


def _shrunk(pictures: Any, step: Any) -> Any:
    """As torchvision's Resize has it, but on 8-bit colours, which is what Pillow does."""
    from torchvision.transforms.v2 import functional

    size = [step.size] if isinstance(step.size, int) else list(step.size)
    return functional.resize(pictures, size, step.interpolation, step.max_size, antialias=True)
