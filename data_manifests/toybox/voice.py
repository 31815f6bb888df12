"""Speech synthesis by espeak-ng, from the optional wheel `espeakng-loader`."""

from ctypes import CDLL, CFUNCTYPE, POINTER, c_int, c_short, c_void_p, string_at
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from m2hf.data_manifests.toybox.sound import RATE, Wave
from m2hf.data_manifests.toybox.vocabulary import SPOKEN
from m2hf.errors import ResourceError

# A small speech recognizer recognizes the words in this sentence at this speed; in
# "The word is ..." it misses a third of them.
SENTENCE = "This is a {}."
WORDS_PER_MINUTE = 120

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2  # samples go to the callback, in the caller's thread
_DONT_EXIT = 0x8000  # return an error where the data is missing; the default ends the process
_RATE_PARAMETER = 1
_BUFFER_MILLISECONDS = 500
_Callback = CFUNCTYPE(c_int, POINTER(c_short), c_int, c_void_p)


def synthesize(word: str) -> Wave:
    """SENTENCE with `word`: (samples,) float32 mono at sound.RATE, peak 1.

    The same word gives the same samples in every process. Raises ResourceError where espeak-ng
    is not installed or doesn't start, KeyError for a word that is not in SPOKEN.
    """
    return _vocabulary()[word]


@cache
def _vocabulary() -> MappingProxyType[str, Wave]:
    # The synthesizer has state that no call resets: the samples of a word depend on earlier ones.
    # So all words are synthesized once per process, always in the same order.
    library, data = _load()
    chunks: list[bytes] = []

    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            chunks.append(string_at(samples, 2 * count))
        return 0

    callback = _Callback(collect)  # the library holds no reference: it must outlive the calls
    rate = library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MILLISECONDS, data.encode(), _DONT_EXIT)
    if rate != RATE:
        raise ResourceError(f"espeak-ng: sample rate {rate} Hz, expected {RATE} Hz; data in {data}")
    spoken: dict[str, Wave] = {}
    try:
        library.espeak_SetSynthCallback(callback)
        library.espeak_SetVoiceByName(b"en-us")
        library.espeak_SetParameter(_RATE_PARAMETER, WORDS_PER_MINUTE, 0)
        for word in SPOKEN:
            chunks.clear()
            text = SENTENCE.format(word).encode()
            library.espeak_Synth(text, len(text) + 1, 0, 1, 0, 0, None, None)
            wave = np.frombuffer(b"".join(chunks), dtype=np.int16).astype(np.float32)
            if not wave.any():
                raise ResourceError(f"espeak-ng: no samples for {word!r}; data in {data}")
            spoken[word] = wave / np.abs(wave).max()
    finally:
        library.espeak_Terminate()
    return MappingProxyType(spoken)


def _load() -> tuple[CDLL, str]:
    import espeakng_loader

    try:
        return CDLL(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
    except (OSError, RuntimeError) as error:
        raise ResourceError(
            f"espeak-ng: the speech synthesizer of the toybox can't be loaded ({error}); "
            "reinstall the package espeakng-loader"
        ) from error
