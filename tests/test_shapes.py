"""The generated corpus: the same bytes each time, captions that tell the truth, playable clips."""

import csv
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2hf.data_manifests.shapes import voice
from m2hf.data_manifests.shapes.corpus import Corpus, generate
from m2hf.data_manifests.shapes.picture import FRAMES, frames
from m2hf.data_manifests.shapes.scene import (
    COLOURS,
    GROUNDS,
    HEIGHT,
    MOTIONS,
    SECONDS,
    SHAPES,
    SIGNS,
    SOUNDS,
    SPOKEN,
    WIDTH,
    Figure,
    Scene,
    captions,
    draw_scenes,
)
from m2hf.data_manifests.shapes.sound import LOUD, QUIET, RATE, make_sound, soundtrack
from m2hf.errors import ResourceError, UsageError
from m2hf.ffmpeg import ffmpeg_exe

needs_voice = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed: pip install 'm2hf[demo]'",
)
CLIPS = 10
PLAIN = Scene((Figure("star", "red", "spin"),), "checks", "low", None, None, seed=5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return generate(tmp_path_factory.mktemp("shapes"), clips=CLIPS)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def banner(video: Path) -> str:
    done = subprocess.run(
        [ffmpeg_exe(), "-hide_banner", "-i", str(video)], capture_output=True, text=True
    )
    return done.stderr


def untruths(caption: str, scene: Scene) -> set[str]:
    """What the caption mentions and the clip does not hold."""
    words = set(re.findall(r"\w+", caption))
    found = words & {*COLOURS, *SHAPES, *SIGNS, *SPOKEN}
    found -= {name for figure in scene.figures for name in (figure.shape, figure.colour)}
    found -= {scene.sign, scene.spoken}
    pairs = {f"{figure.colour} {figure.shape}" for figure in scene.figures}
    named = re.findall(rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})", caption)
    found |= set(named) - pairs
    moving = {figure.motion for figure in scene.figures}
    for name, forms in MOTIONS.items():
        found |= {form for form in forms if re.search(rf"\b{form}\b", caption)} - (
            set(forms) if name in moving else set()
        )
    found |= {text for name, text in GROUNDS.items() if text in caption and name != scene.ground}
    found |= {text for name, text in SOUNDS.items() if text in caption and name != scene.sound}
    found |= (words & {"sign", "reads"}) if scene.sign is None else set()
    found |= (words & {"voice", "someone", "says"}) if scene.spoken is None else set()
    return found


def test_scenes_differ_and_repeat_from_the_seed() -> None:
    scenes = draw_scenes(300, seed=3)
    assert scenes == draw_scenes(300, seed=3)
    assert scenes != draw_scenes(300, seed=4)
    assert len({replace(scene, seed=0) for scene in scenes}) == 300
    leads = [(scene.figures[0].colour, scene.figures[0].shape) for scene in scenes]
    assert all(len(set(leads[at : at + 36])) == 36 for at in range(300 - 36))


def test_scenes_hold_their_shares() -> None:
    scenes = draw_scenes(100, seed=1)
    assert sum(scene.sign is not None for scene in scenes) == 40
    assert sum(scene.spoken is not None for scene in scenes) == 40
    assert sum(not scene.has_audio for scene in scenes) == 12
    assert not any(scene.spoken and not scene.has_audio for scene in scenes)
    figures = [figure for scene in scenes for figure in scene.figures]
    assert {figure.motion for figure in figures} == set(MOTIONS)
    assert ("circle", "spin") not in {(figure.shape, figure.motion) for figure in figures}


def test_captions_mention_only_what_the_clip_holds() -> None:
    rng = np.random.default_rng(0)
    for scene in draw_scenes(100, seed=2):
        drawn = captions(scene, 6, rng)
        assert len(set(drawn)) == 6
        for caption in drawn:
            assert not untruths(caption, scene), caption
            assert caption == " ".join(caption.split())


def test_the_caption_check_sees_a_lie() -> None:
    lies = [
        "a blue star",
        "a red star grows",
        "a siren wails",
        "a sign reads HOTEL",
        "a brick wall",
    ]
    assert all(untruths(lie, PLAIN) for lie in [*lies, "a voice says tiger over a red star"])


def test_captions_mention_at_least_so_many_parts() -> None:
    rng = np.random.default_rng(0)
    scene = replace(PLAIN, sound=None)
    for caption in captions(scene, 5, rng, least=2):
        assert "red star" in caption
        assert "checkered" in caption


def test_frames_move_and_repeat() -> None:
    for motion in MOTIONS:
        scene = replace(PLAIN, figures=(Figure("star", "red", motion),))
        shown = list(frames(scene))
        assert len(shown) == FRAMES
        assert {(frame.shape, frame.dtype) for frame in shown} == {
            ((HEIGHT, WIDTH, 3), np.dtype(np.uint8))
        }
        assert (shown[0] != shown[FRAMES // 2 + 3]).any(axis=2).sum() > 300, motion
        assert np.array_equal(shown[7], list(frames(scene))[7])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_shapes_stand_out(shape: str, ground: str) -> None:
    scene = replace(PLAIN, figures=(Figure(shape, "red", "up"),), ground=ground)
    red, green, blue = next(frames(scene)).astype(int).transpose(2, 0, 1)
    assert ((red - green > 120) & (red - blue > 120)).sum() > 800


def test_directions_are_those_of_the_caption() -> None:
    for motion, axis, sign in [("right", 1, 1), ("left", 1, -1), ("down", 0, 1), ("up", 0, -1)]:
        shown = list(frames(replace(PLAIN, figures=(Figure("square", "red", motion),))))
        first, last = (
            np.argwhere(frame[:, :, 0].astype(int) - frame[:, :, 1] > 120).mean(axis=0)
            for frame in (shown[0], shown[-1])
        )
        assert (last - first)[axis] * sign > 50, motion


@pytest.mark.parametrize("word", SIGNS)
def test_the_sign_is_drawn_and_nothing_covers_it(word: str) -> None:
    figures = (Figure("heart", "red", "grow"), Figure("star", "blue", "bounce"))
    shown = list(frames(replace(PLAIN, figures=figures, sign=word)))
    plate = (shown[0] == 255).all(axis=2)
    assert plate.sum() > 2500
    rows, columns = np.nonzero(plate)
    area = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    ink = (shown[0][area] < 60).all(axis=2)
    assert 0.05 < ink.mean() < 0.5
    assert columns.min() > 0
    assert columns.max() < WIDTH - 1
    assert all(np.array_equal(frame[area], shown[0][area]) for frame in shown)


def test_sounds_differ_and_stay_quiet_under_a_voice() -> None:
    waves = [make_sound(name, seed=1) for name in SOUNDS]
    for at, wave in enumerate(waves):
        assert wave.shape == (round(SECONDS * RATE),)
        assert wave.dtype == np.float32
        assert np.abs(wave).max() == pytest.approx(1, abs=1e-6)
        assert not any(np.allclose(wave, other) for other in waves[:at])
    assert np.abs(soundtrack(PLAIN, None)).max() == pytest.approx(LOUD, abs=1e-6)
    under = soundtrack(PLAIN, np.zeros(9 * RATE, np.float32))
    assert np.abs(under).max() == pytest.approx(QUIET, abs=1e-6)
    with pytest.raises(ValueError, match="no audio"):
        soundtrack(replace(PLAIN, sound=None), None)


@needs_voice
def test_the_voice_says_each_word() -> None:
    for word in SPOKEN:
        wave = voice.say(word)
        assert wave.dtype == np.float32
        assert 0.8 * RATE < len(wave) < 2 * RATE
        assert np.abs(wave).max() == pytest.approx(1)
    with pytest.raises(KeyError):
        voice.say("xylophone")


@needs_voice
def test_the_voice_is_the_same_in_another_process() -> None:
    code = (
        "from hashlib import sha256; from m2hf.data_manifests.shapes.voice import say; "
        f"print(sha256(say({SPOKEN[-1]!r}).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    voice.say(SPOKEN[0])
    assert done.stdout.strip() == hashlib.sha256(voice.say(SPOKEN[-1]).tobytes()).hexdigest()


def test_a_missing_voice_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    # Past the cache: speaking a second time in this process would give other samples.
    monkeypatch.setattr(voice, "_vocabulary", voice._vocabulary.__wrapped__)
    with pytest.raises(ResourceError, match=r"pip install 'm2hf\[demo\]'$"):
        generate(tmp_path / "out", clips=3)
    assert not (tmp_path / "out").exists()


@needs_voice
def test_the_same_arguments_give_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    before = digests(corpus.videos.parent)
    assert len(before) == CLIPS + 2
    generate(tmp_path, clips=CLIPS)
    assert digests(tmp_path) == before
    (tmp_path / "videos" / "shapes0003.mp4").write_bytes(b"half a file")
    (tmp_path / "videos" / ".shapes0004.mp4.tmp-1").write_bytes(b"of a run that was killed")
    generate(tmp_path, clips=CLIPS)
    assert digests(tmp_path) == before


@needs_voice
def test_captions_csv(corpus: Corpus) -> None:
    with corpus.captions.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "caption", "split"]
    splits = {row["id"]: row["split"] for row in rows}
    assert list(splits) == list(corpus.scenes) == [f"shapes{at:04d}" for at in range(CLIPS)]
    assert Counter(splits.values()) == {"train": 6, "val": 2, "test": 2}
    for name, count in Counter(row["id"] for row in rows).items():
        assert count == (4 if splits[name] == "train" else 1)
    assert all(not untruths(row["caption"], corpus.scenes[row["id"]]) for row in rows)


@needs_voice
def test_scenes_json_is_the_truth(corpus: Corpus) -> None:
    truth = json.loads((corpus.videos.parent / "scenes.json").read_text(encoding="utf-8"))
    assert truth["seed"] == 0
    for clip, (name, scene) in zip(truth["clips"], corpus.scenes.items(), strict=True):
        assert clip["id"] == name
        assert clip["has_audio"] == scene.has_audio
        assert tuple(Figure(**figure) for figure in clip["figures"]) == scene.figures
        assert (clip["sign"], clip["spoken"]) == (scene.sign, scene.spoken)


@needs_voice
def test_the_streams_are_those_of_the_scene(corpus: Corpus) -> None:
    assert 0 < sum(not scene.has_audio for scene in corpus.scenes.values()) < CLIPS
    for name, scene in corpus.scenes.items():
        text = banner(corpus.videos / f"{name}.mp4")
        assert re.search(rf"Video: h264.*{WIDTH}x{HEIGHT}.*12 fps", text)
        assert ("Audio: aac" in text) == ("Audio:" in text) == scene.has_audio
        assert "Duration: 00:00:03.0" in text


@pytest.mark.parametrize(("clips", "seed"), [(2, 0), (10_000, 0), (3, -1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, clips: int, seed: int) -> None:
    with pytest.raises(UsageError, match="shapes: "):
        generate(tmp_path / "out", clips=clips, seed=seed)
    assert not (tmp_path / "out").exists()


@needs_voice
def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    stray = tmp_path / "videos" / "shapes0042.mp4"
    stray.parent.mkdir()
    stray.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"shapes0042\.mp4"):
        generate(tmp_path, clips=3)
    assert [path.name for path in tmp_path.rglob("*.mp4")] == [stray.name]
    with pytest.raises(UsageError, match="no folder"):
        generate(stray, clips=3)


def test_an_ffmpeg_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m2hf.data_manifests.shapes import corpus as module

    def broken(sound: Path | None, part: Path) -> list[str]:
        return [ffmpeg_exe(), "-loglevel", "error", "-f", "nosuch", "-i", "pipe:0", str(part)]

    monkeypatch.setattr(module, "_encoder", broken)
    monkeypatch.setattr(module, "say", lambda word: np.ones(9, np.float32))
    with pytest.raises(ResourceError, match=r"shapes0000\.mp4: ffmpeg can't write it: .*nosuch"):
        generate(tmp_path, clips=3)
    assert not any((tmp_path / "videos").iterdir())
