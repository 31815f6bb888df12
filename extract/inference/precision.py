"""Precisions in which a network runs, and the devices that have them."""

from typing import Any, Literal

Kept = Literal["float32", "bfloat16"]
Precision = Literal["float32", "bfloat16", "auto"]
AUTO = "auto"


def has_fast_bfloat16(device: str) -> bool:
    """Whether this machine multiplies in bfloat16 rather than emulating it.

    Emulation took 8 times as long as float32 on a processor, and isn't in CUDA's libraries.
    """
    import torch

    cuda: Any = torch.cuda  # parts of torch are not annotated
    mkldnn: Any = torch.backends.mkldnn
    if device.startswith("cuda"):
        return bool(cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return True
    return mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
