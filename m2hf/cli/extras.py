"""Which extra of m2hf installs a module that a command needs and that isn't there."""

from collections.abc import Sequence

from m2hf.errors import UsageError

# The modules of other packages that m2hf imports, by the extra that installs them; the base
# install has the rest. The extras are in pyproject.toml.
MODULES: dict[str, tuple[str, ...]] = {
    "extract": (
        "PIL",
        "ctranslate2",
        "cv2",
        "easyocr",
        "faster_whisper",
        "ffmpeg",
        "huggingface_hub",
        "imageio_ffmpeg",
        "librosa",
        "matplotlib",
        "onnxruntime",
        "open_clip",
        "safetensors",
        "sentence_transformers",
        "threadpoolctl",
        "timm",
        "torch",
        "torchvision",
        "transformers",
        "whisper",
    ),
    "fuse": ("bm25s", "matplotlib", "safetensors", "torch"),
    "cluster": ("dask", "distributed"),
    "app": ("starlette", "uvicorn"),
    "demo": ("PIL", "espeakng_loader", "imageio_ffmpeg"),
    "arrow": ("pyarrow",),
    "rapidocr": ("rapidocr_onnxruntime",),
    "jobqueue": ("dask_jobqueue",),
}
# importlib.metadata raises for a distribution, whose name may differ from its module's.
_DISTRIBUTIONS = {
    "ffmpeg_python": "ffmpeg",
    "open_clip_torch": "open_clip",
    "openai_whisper": "whisper",
    "opencv_python_headless": "cv2",
    "pillow": "PIL",
}
# Verbs that need several extras, or share modules with extraction but not the rest of it.
VERBS: dict[str, tuple[str, ...]] = {
    "app": ("app", "extract", "fuse"),
    "bundle": ("fuse",),
    "demo": ("cluster", "demo", "extract", "fuse", "offline-weights"),
    "eval": ("fuse",),
    "manifest toybox": ("demo",),
    "matrices": ("fuse",),
    "reproduce": ("fuse",),
    "search": ("extract", "fuse"),
    "sweep": ("fuse",),
    "train": ("fuse",),
}
_GROUPS = ("manifest", "weights")  # verbs of two words


def missing_extra(error: ModuleNotFoundError, arguments: Sequence[str]) -> UsageError | None:
    """The error to print for `m2hf ARGUMENTS` where an extra is missing; None where the module
    is of no extra, which is a bug."""
    name = (error.name or "").partition(".")[0]
    module = name.replace("-", "_")
    module = _DISTRIBUTIONS.get(module, module)
    brought_by = [extra for extra, modules in MODULES.items() if module in modules]
    if not brought_by:
        return None
    verb = " ".join(arguments[: 2 if arguments[:1] and arguments[0] in _GROUPS else 1])
    of_verb = VERBS.get(verb, ())
    extras = of_verb if set(brought_by) & set(of_verb) else brought_by[:1]
    plural = "s" if len(extras) > 1 else ""
    names = ",".join(extras)
    return UsageError(
        f"{verb} needs {name}; install the extra{plural}: pip install 'm2hf[{names}]' "
        f"(in a checkout: pip install '.[{names}]')"
    )
