"""What a scene sounds like, as a waveform: a sound, and quietly under the voice if one speaks."""

import numpy as np
from numpy.typing import NDArray

from m2hf.data_manifests.shapes.scene import SECONDS, Scene

RATE = 22050  # samples per second, mono
LOUD = 0.3  # peak of the sound on its own, of 1
QUIET = 0.01  # and under a voice, which speech recognition has to understand
SPEECH_START = 0.6  # seconds

Wave = NDArray[np.float32]


def soundtrack(scene: Scene, speech: Wave | None) -> Wave:
    """The scene's waveform: (SECONDS * RATE,) float32 mono within -1..1.

    `speech`, a waveform at RATE with peak 1 or less, starts at SPEECH_START; what would run past
    the end is cut. Raises ValueError for a scene without audio.
    """
    if scene.sound is None:
        raise ValueError("this scene has no audio track")
    wave = make_sound(scene.sound, scene.seed) * (LOUD if speech is None else QUIET)
    if speech is not None:
        start = round(SPEECH_START * RATE)
        part = speech[: len(wave) - start]
        wave[start : start + len(part)] += 0.7 * part
    return wave.astype(np.float32)


def make_sound(sound: str, seed: int) -> Wave:
    """One of scene.SOUNDS for SECONDS: (SECONDS * RATE,) float32 with peak 1.

    Raises ValueError for another name.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(round(SECONDS * RATE)) / RATE
    wave: NDArray[np.float64]
    match sound:
        case "low":
            hertz = rng.uniform(150, 190)
            wave = np.sin(2 * np.pi * hertz * t) + 0.4 * np.sin(4 * np.pi * hertz * t)
        case "high":
            wave = np.sin(2 * np.pi * rng.uniform(1500, 1900) * t)
        case "beeps":
            on = t % 0.5 < 0.18
            wave = np.where(on, np.sin(2 * np.pi * rng.uniform(800, 950) * t), 0)
        case "noise":
            wave = rng.standard_normal(len(t))
        case "siren":
            sweep = 850 + 350 * np.sin(2 * np.pi * rng.uniform(0.7, 1.1) * t)
            wave = np.sin(2 * np.pi * np.cumsum(sweep) / RATE)
        case "drum":
            since = t % rng.uniform(0.34, 0.42)  # seconds since the last beat
            thump = np.sin(2 * np.pi * 90 * since) * np.exp(-since / 0.06)
            wave = thump + 0.5 * rng.standard_normal(len(t)) * np.exp(-since / 0.012)
        case _:
            raise ValueError(f"no sound {sound!r}")
    fade = np.minimum(1, np.minimum(t, t[::-1]) / 0.02)  # no click at either end
    wave = wave * fade
    return np.asarray(wave / np.abs(wave).max(), dtype=np.float32)
