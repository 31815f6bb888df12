"""Cnn14 of PANNs (Kong et al. 2020, arXiv 1912.10211): checkpoint, spectrogram and network.

Implemented from the paper, with the names of the published tensors: `panns-inference` downloads a
file through a shell when it is imported, and unpickles its checkpoint without restriction. PANNs'
code is MIT, the weights are CC BY 4.0.

B windows, T frames of a window, M mel bands, C channels, D the width.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.networks.learned import read_tensors
from m2hf.extract.networks.untrained import seeded
from m2hf.extract.weights.checked import load_tensors, loading
from m2hf.extract.weights.sources import UrlSource
from m2hf.extract.weights.weight import Weight, WeightFile

NAME = "cnn14"
RATE = 32000  # Hz
HOP = 320  # samples from one frame to the next
WINDOW = 10 * RATE  # samples: it was trained on AudioSet's clips, which last 10 s
WIDTH = 2048
_FFT = 1024
_MELS = 64
_LOWEST_HZ, _HIGHEST_HZ = 50.0, 14000.0
_CHANNELS = (1, 64, 128, 256, 512, 1024, WIDTH)

_FILE = "Cnn14_mAP=0.431.pth"
_SIZE_MB = 327
# Zenodo publishes only the md5, 541141fa2ee191a88f24a3219fff024e. This is of the same file.
_SHA256 = "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31"
_FILTERS = "logmel_extractor.melW"
# Tensors of a checkpoint that are not used here: the classifier, and the spectrogram transform.
_UNUSED = ("fc_audioset.", "spectrogram_extractor.", "logmel_extractor.")


def weight(path: Path | None, tag: str) -> Weight:
    """The checkpoint at `path`, or where panns-inference keeps the published one."""
    if path is not None:
        return Weight(NAME, size_mb=0, explicit=str(path))
    return Weight(
        f"{NAME}/{tag}",
        _SIZE_MB,
        cached_sha256=_SHA256,
        cached=Path.home() / "panns_data" / _FILE,
        source=UrlSource(f"https://zenodo.org/records/3987831/files/{_FILE}", _SHA256),
        get=(
            "set extract.audio.pretrained to its path; without weights, use logmel in place of "
            "audio (see --config offline)"
        ),
    )


def spectrogram(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, M), T = WINDOW / HOP + 1: log-mel levels in dB of up to WINDOW samples.

    A shorter sound is padded with silence, as in training. Frame t is centred on sample t * HOP;
    both ends of the window are padded by reflection, as in the published network's transform.
    """
    import librosa

    power_MT = librosa.feature.melspectrogram(
        y=np.pad(samples, (0, WINDOW - len(samples))),
        sr=RATE,
        n_fft=_FFT,
        hop_length=HOP,
        window="hann",
        center=True,
        pad_mode="reflect",
        n_mels=_MELS,
        fmin=_LOWEST_HZ,
        fmax=_HIGHEST_HZ,
    )
    level_MT = librosa.power_to_db(power_MT, ref=1.0, amin=1e-10, top_db=None)
    return np.ascontiguousarray(level_MT.T)


def load(file: WeightFile | None, seed: int, device: str) -> Callable[[Any], Any]:
    """Spectrograms (B, T, M) on `device` -> (B, D); random weights where there is no file.

    Raises ResourceError where the file is damaged or of another network.
    """
    import torch

    with torch.device("cpu" if file is None else "meta"):  # nothing is drawn for a file
        network = _modules(seed)
    if file is not None:
        with loading(file, f"a checkpoint of {NAME}") as path:
            network.to_empty(device="cpu")
            load_tensors(network, _used_tensors(path))
    network.eval().to(device)
    return lambda spectrograms: _embedding(network, spectrograms)


def _modules(seed: int) -> Any:
    """The layers by their published names. Convolutions are initialised for ReLU (He et al. 2015):
    with torch's default, the signal vanishes in twelve layers."""
    import torch
    from torch.nn import BatchNorm2d, Conv2d, Linear, ModuleDict

    def block(before: int, after: int) -> ModuleDict:
        layers: dict[str, Any] = {"bn1": BatchNorm2d(after), "bn2": BatchNorm2d(after)}
        for name, channels in (("conv1", before), ("conv2", after)):
            layers[name] = Conv2d(channels, after, 3, padding=1, bias=False)
            torch.nn.init.kaiming_uniform_(layers[name].weight, nonlinearity="relu")
        return ModuleDict(layers)

    with seeded(seed):
        layers = {"bn0": BatchNorm2d(_MELS), "fc1": Linear(WIDTH, WIDTH)}
        for n, channels in enumerate(pairwise(_CHANNELS), start=1):
            layers[f"conv_block{n}"] = block(*channels)
        return ModuleDict(layers)


def _embedding(network: Any, spectrograms_BTM: Any) -> Any:
    """(B, D): the input of the classifier."""
    from torch.nn.functional import avg_pool2d, relu

    normed_BMT1 = network["bn0"](spectrograms_BTM.transpose(1, 2)[..., None])
    x_BCTM = normed_BMT1.permute(0, 3, 2, 1)
    last = len(_CHANNELS) - 1
    for n in range(1, last + 1):
        block = network[f"conv_block{n}"]
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
            x_BCTM = relu(block[norm](block[conv](x_BCTM)))
        if n < last:
            x_BCTM = avg_pool2d(x_BCTM, 2)
    x_BCT = x_BCTM.mean(dim=3)
    return relu(network["fc1"](x_BCT.amax(dim=2) + x_BCT.mean(dim=2)))


def _used_tensors(path: Path) -> Mapping[str, Any]:
    """The tensors of a checkpoint without those that are not used here.

    Raises ValueError where it has no state dict, or was trained on other spectrograms.
    """
    from librosa.filters import mel

    state = read_tensors(path)
    if path.suffix != ".safetensors":
        state = state.get("model") if isinstance(state, dict) else None
    if not isinstance(state, dict) or _FILTERS not in state:
        raise ValueError(f"there is no {_FILTERS} in it")
    mels = mel(sr=RATE, n_fft=_FFT, n_mels=_MELS, fmin=_LOWEST_HZ, fmax=_HIGHEST_HZ).T
    found = np.asarray(state[_FILTERS])
    if found.shape != mels.shape or not np.allclose(found, mels, atol=1e-5):
        raise ValueError(
            f"{_FILTERS} is not that of {RATE} Hz, {_FFT} samples a frame and {_MELS} bands from "
            f"{_LOWEST_HZ:.0f} to {_HIGHEST_HZ:.0f} Hz"
        )
    return {name: tensor for name, tensor in state.items() if not name.startswith(_UNUSED)}
