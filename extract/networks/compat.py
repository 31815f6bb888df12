"""Make `import torchvision` work with a CPU build of torch that its wheel was not built for."""

from functools import cache
from typing import Any

_libraries: list[Any] = []  # a torch Library un-registers its operators when it is collected


@cache
def import_torchvision() -> Any:
    """Import torchvision and return it; call this before open_clip, easyocr or video models.

    torchvision's wheel on the public index is built for CUDA. With a CPU torch its extension
    doesn't load, and the import fails because two operators have no schema. In that case the two
    schemas are defined here; m2hf doesn't use the operators themselves.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        library: Any = torch.library.Library  # torch leaves it untyped
        schemas = library("torchvision", "DEF")
        schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(schemas)
        import torchvision
    return torchvision
