"""The waveform of a scene: its sound, followed by speech if it has any."""

import numpy as np
from numpy.typing import NDArray

from m2hf.data_manifests.toybox.scene import SECONDS, Scene

RATE = 22050  # samples per second, mono
LOUD = 0.3  # peak of the sound, of 1
SPEECH_START = 1.7  # seconds; where there is speech, the sound ends before it

Wave = NDArray[np.float32]


def soundtrack(scene: Scene, speech: Wave | None) -> Wave:
    """The scene's waveform: (SECONDS * RATE,) float32 mono within -1..1.

    `speech`, a waveform at RATE with peak 1 or less, starts at SPEECH_START and is cut at the end
    of the clip. Raises ValueError for a scene without audio.
    """
    if scene.sound is None:
        raise ValueError("this scene has no audio track")
    start = round(SPEECH_START * RATE)
    end = round(SECONDS * RATE) if speech is None else start - RATE // 10
    wave = np.zeros(round(SECONDS * RATE))
    wave[:end] = LOUD * make_sound(scene.sound, scene.seed)[:end] * fade(end)
    if speech is not None:
        part = speech[: len(wave) - start]
        wave[start : start + len(part)] += 0.7 * part
    return wave.astype(np.float32)


def make_sound(sound: str, seed: int) -> Wave:
    """One of SOUNDS for SECONDS: (SECONDS * RATE,) float32 with peak 1.

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
        case "bark":
            since = t % rng.uniform(0.55, 0.7)  # seconds since the last bark
            falling = rng.uniform(380, 460) * np.exp(-since / 0.3)
            voice = np.sign(np.sin(2 * np.pi * falling * since)) + 0.4 * rng.standard_normal(len(t))
            wave = voice * np.minimum(1, since / 0.01) * np.exp(-((since / 0.12) ** 2))
        case "bell":
            since = t % rng.uniform(1.1, 1.3)
            hertz = rng.uniform(600, 700)
            partials = ((1.0, 1.0), (2.76, 0.6), (5.4, 0.35))  # of a bar, which are no harmonics
            tones = [a * np.sin(2 * np.pi * hertz * k * since) for k, a in partials]
            wave = np.sum(tones, axis=0) * np.exp(-since / 0.4)
        case _:
            raise ValueError(f"no sound {sound!r}")
    return np.asarray(wave / np.abs(wave).max(), dtype=np.float32)


def fade(samples: int) -> NDArray[np.float64]:
    """A linear fade at both ends, which avoids clicks."""
    at = np.arange(samples) / RATE
    fade: NDArray[np.float64] = np.minimum(1, np.minimum(at, at[::-1]) / 0.02)
    return fade
