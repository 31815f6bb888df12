"""The extractors by name. A new modality is one file in this folder and one line here."""

from importlib import import_module

from m2hf.extract.base import Extractor

_CLASSES = {
    "clip": "m2hf.extract.clip:FrameEncoder",
    "caption": "m2hf.extract.caption:CaptionEncoder",
    "image": "m2hf.extract.image:ImageFeatures",
    "concepts": "m2hf.extract.concepts:Concepts",
    "audio": "m2hf.extract.audio:Audio",
    "logmel": "m2hf.extract.logmel:LogMel",
    "motion": "m2hf.extract.motion:Motion",
    "flow": "m2hf.extract.flow:Flow",
    "thumbnail": "m2hf.extract.thumbnail:Thumbnailer",
    "ocr": "m2hf.extract.ocr:Ocr",
    "asr": "m2hf.extract.asr:Asr",
    "text": "m2hf.extract.text:Text",
}


def names() -> tuple[str, ...]:
    """All extractors, each after those whose features it reads."""
    return tuple(_CLASSES)


def extractor_class(name: str) -> type[Extractor]:
    """The declaration class of an extractor; imports its module, not its libraries."""
    module, _, attribute = _CLASSES[name].partition(":")
    found: type[Extractor] = getattr(import_module(module), attribute)
    return found
