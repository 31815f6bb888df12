"""The generated toybox: equal bytes each time, correct captions, playable clips."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from m2hf.data_manifests.toybox import voice
from m2hf.data_manifests.toybox.captions import SEEN, parts_of, sentence
from m2hf.data_manifests.toybox.corpus import ToyboxCorpus, generate
from m2hf.data_manifests.toybox.drawing import RGB, SceneRenderer, frames
from m2hf.data_manifests.toybox.families import BLOCK, TWINS, draw_toybox
from m2hf.data_manifests.toybox.scene import FRAMES, HEIGHT, SECONDS, WIDTH, FigureGroup, Scene
from m2hf.data_manifests.toybox.sound import LOUD, RATE, SPEECH_START, make_sound, soundtrack
from m2hf.data_manifests.toybox.tiny_clip_scenes import draw_tiny_clip_scenes
from m2hf.data_manifests.toybox.vocabulary import (
    COLOURS,
    GROUNDS,
    MOTIONS,
    SHAPES,
    SIGNS,
    SIZES,
    SOUNDS,
    SPOKEN,
)
from m2hf.errors import ResourceError, UsageError
from m2hf.ffmpeg import ffmpeg_exe
from m2hf.manifest import SPLITS, captions_of

needs_voice = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed: pip install 'm2hf[demo]'",
)
CLIPS = 3 * BLOCK
STAR = FigureGroup(1, "large", "red", "star")
PLAIN = Scene((STAR,), "checks", "right", sound="low", seed=5)


CORPUS = ToyboxCorpus.draw(CLIPS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that CORPUS was generated in."""
    out = tmp_path_factory.mktemp("toybox")
    generate(out, CORPUS)
    return out


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


def claims_of(caption: str) -> dict[str, set[str]]:
    """What a caption claims, parsed from its words independently of the generator."""
    words = set(re.findall(r"\w+", caption.lower().replace("a bell rings", "")))  # no shape
    singular = (
        words | {word.removesuffix("s") for word in words} | {w.removesuffix("es") for w in words}
    )
    singular |= {"diamond"} if "rhombi" in words else set()
    phrase = caption.lower()
    return {
        "colours": {key for key, names in COLOURS.items() if words & set(names)},
        "shapes": {key for key, names in SHAPES.items() if singular & set(names)},
        "sizes": {key for key, names in SIZES.items() if words & set(names)},
        "grounds": {key for key, names in GROUNDS.items() if any(n in phrase for n in names)},
        "sounds": {key for key, names in SOUNDS.items() if any(n in phrase for n in names)},
        "words": {w.lower() for w in (*SIGNS, *SPOKEN) if re.search(rf"\b{w.lower()}\b", phrase)},
    }


def content_of(scene: Scene) -> dict[str, set[str]]:
    return {
        "colours": {group.colour for group in scene.groups},
        "shapes": {group.shape for group in scene.groups},
        "sizes": {group.size for group in scene.groups},
        "grounds": {scene.ground},
        "sounds": {scene.sound} - {None},
        "words": {word.lower() for word in (scene.sign, scene.spoken) if word},
    }


def test_scenes_repeat_from_the_seed_and_grow_by_their_end() -> None:
    scenes = draw_toybox(96, seed=3)
    assert scenes == draw_toybox(96, seed=3)
    assert scenes[:40] == draw_toybox(40, seed=3)
    assert scenes != draw_toybox(96, seed=4)


def test_twins_look_the_same_and_differ_in_all_other_parts() -> None:
    scenes = draw_toybox(400, seed=1)
    looks = [(scene.groups, scene.ground) for scene in scenes]
    for at in range(0, 400, BLOCK):
        twins = scenes[at : at + TWINS]
        assert len(set(looks[at : at + TWINS])) == 1
        assert len({scene.motion for scene in twins}) == TWINS
        for heard in ("sound", "sign", "spoken"):
            given = [getattr(scene, heard) for scene in twins if getattr(scene, heard) is not None]
            assert len(set(given)) == len(given)
        assert len({scene.sign is None for scene in twins}) == 1
        assert len({scene.spoken is None for scene in twins if scene.has_audio}) <= 1
    assert len(set(looks)) == 400 // BLOCK * (1 + TWINS)
    assert 25 < sum(not scene.has_audio for scene in scenes) < 75
    assert sum(scene.sign is not None for scene in scenes) == pytest.approx(200, abs=8)
    assert not any(scene.spoken and not scene.has_audio for scene in scenes)


def test_the_toybox_is_of_combinations_that_training_never_shows() -> None:
    assert all(scene.held_out for scene in draw_toybox(200, seed=0))
    trained = list(islice(draw_tiny_clip_scenes(0, held_out=False), 2000))
    assert not any(scene.held_out for scene in trained)
    lead = {(s.groups[0].colour, s.groups[0].shape, s.ground) for s in draw_toybox(200, seed=0)}
    shown = {(g.colour, g.shape, s.ground) for s in trained for g in s.groups}
    assert len(shown) > 500
    assert not lead & shown


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_mention_the_given_parts_and_nothing_else(held_out: bool) -> None:
    rng = np.random.default_rng(0)
    for scene in islice(draw_tiny_clip_scenes(2, held_out), 150):
        known = content_of(scene)
        look = claims_of(sentence(scene, SEEN, rng))
        assert {**look, "words": set()} == {**known, "sounds": set(), "words": set()}
        everything = claims_of(sentence(scene, parts_of(scene), rng))
        words = {word.lower() for word in (*SIGNS, *SPOKEN)}
        assert everything["sounds"] == known["sounds"]
        assert everything["words"] & known["words"] == known["words"] & words
    with pytest.raises(ValueError, match="nothing"):
        sentence(scene, (), rng)
    with pytest.raises(ValueError, match="sign"):
        sentence(replace(scene, sign=None), ("sign",), rng)


def test_the_caption_check_finds_a_false_claim() -> None:
    assert claims_of("a big blue star on bricks") != content_of(PLAIN)
    assert claims_of("a siren wails while a sign reads HOTEL")["sounds"] == {"siren"}
    assert claims_of("a siren wails while a sign reads HOTEL")["words"] == {"hotel"}


def red(frame: np.ndarray) -> np.ndarray:
    r, g, b = frame.astype(int).transpose(2, 0, 1)
    return (r - g > 120) & (r - b > 120)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_figures_stand_out_in_the_given_number(shape: str, size: str) -> None:
    import cv2

    for ground in GROUNDS:
        group = FigureGroup(3, size, "red", shape)
        scene = replace(PLAIN, groups=(group,), ground=ground, motion="still", place="middle")
        shown = red(SceneRenderer(scene).frame(0.0))
        assert shown.sum() > (500 if size == "large" else 150)
        count, *_ = cv2.connectedComponents(cv2.erode(shown.astype(np.uint8), np.ones((3, 3))))
        assert count - 1 == 3


def test_sizes_and_colours_are_distinguishable() -> None:
    large, small = (
        red(SceneRenderer(replace(PLAIN, groups=(replace(STAR, size=size),))).frame(0.0)).sum()
        for size in ("large", "small")
    )
    assert large > 2 * small
    colours = np.array([RGB[name] for name in COLOURS])
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 999 * np.eye(len(colours))
    assert apart.min() > 60


@pytest.mark.parametrize(("motion", "axis", "step"), [
    ("right", 1, 1), ("left", 1, -1), ("down", 0, 1), ("up", 0, -1),
])  # fmt: skip
def test_directions_are_those_of_the_caption(motion: str, axis: int, step: int) -> None:
    """By the shift between neighbours that correlates best, wherever the figure wraps."""
    shown = [red(frame).astype(float) for frame in frames(replace(PLAIN, motion=motion))]
    assert len(shown) == FRAMES
    for before, after in pairwise(shown[:9]):
        shifts = range(-30, 31)
        best = max(shifts, key=lambda s: (np.roll(before, s, axis) * after).sum())
        assert best * step > 8


def test_unordered_frames_do_not_reveal_a_direction() -> None:
    """The same places are passed to the right and to the left, from starts that the seed draws."""

    def middles(motion: str) -> list[float]:
        found = []
        for seed in range(150):
            stage = SceneRenderer(replace(PLAIN, motion=motion, seed=seed))
            found.append(np.nonzero(red(stage.frame(seed % 4)))[1].mean())
        return found

    right, left = middles("right"), middles("left")
    assert abs(np.mean(right) - np.mean(left)) < 25
    assert np.ptp(right) > 200


def test_a_still_figure_rests_and_a_shaking_one_returns() -> None:
    still = list(frames(replace(PLAIN, motion="still")))
    assert all(np.array_equal(frame, still[0]) for frame in still)
    shake = list(frames(replace(PLAIN, motion="shake")))
    assert any((frame != shake[0]).any() for frame in shake)
    assert np.ptp([np.nonzero(red(frame))[1].mean() for frame in shake]) < 60


@pytest.mark.parametrize("word", SIGNS)
def test_the_sign_is_drawn_and_nothing_covers_it(word: str) -> None:
    scene = replace(PLAIN, sign=word, motion="down")
    shown = [SceneRenderer(scene).frame(second) for second in (0.0, 0.5, 1.0, 1.5)]
    plate = (shown[0] == 255).all(axis=2)
    assert plate.sum() > 2000
    rows, columns = np.nonzero(plate)
    area = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    ink = (shown[0][area] < 60).all(axis=2)
    assert 0.05 < ink.mean() < 0.5
    assert columns.min() > 0
    assert columns.max() < WIDTH - 1
    assert all(np.array_equal(frame[area], shown[0][area]) for frame in shown)


def test_sounds_differ_and_end_before_a_voice() -> None:
    waves = [make_sound(name, seed=1) for name in SOUNDS]
    for at, wave in enumerate(waves):
        assert wave.shape == (round(SECONDS * RATE),)
        assert wave.dtype == np.float32
        assert np.abs(wave).max() == pytest.approx(1, abs=1e-6)
        assert not any(np.allclose(wave, other) for other in waves[:at])
    assert np.abs(soundtrack(PLAIN, None)).max() == pytest.approx(LOUD, rel=0.02)
    voiced = soundtrack(PLAIN, np.ones(9 * RATE, np.float32))
    begin = round(SPEECH_START * RATE)
    assert not voiced[begin - RATE // 10 : begin].any()
    np.testing.assert_allclose(voiced[begin:], 0.7, atol=1e-6)
    with pytest.raises(ValueError, match="no audio"):
        soundtrack(replace(PLAIN, sound=None), None)


@needs_voice
def test_the_voice_says_each_word_and_it_ends_with_the_clip() -> None:
    for word in SPOKEN:
        wave = voice.synthesize(word)
        assert wave.dtype == np.float32
        assert 0.8 * RATE < len(wave) < (SECONDS - SPEECH_START) * RATE
        assert np.abs(wave).max() == pytest.approx(1)
    with pytest.raises(KeyError):
        voice.synthesize("xylophone")


@needs_voice
def test_the_voice_is_the_same_in_another_process() -> None:
    code = (
        "from hashlib import sha256; from m2hf.data_manifests.toybox.voice import synthesize; "
        f"print(sha256(synthesize({SPOKEN[-1]!r}).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    voice.synthesize(SPOKEN[0])
    assert done.stdout.strip() == hashlib.sha256(voice.synthesize(SPOKEN[-1]).tobytes()).hexdigest()


def test_without_a_voice_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    # Past the cache: speaking a second time in this process would give other samples.
    monkeypatch.setattr(voice, "_vocabulary", voice._vocabulary.__wrapped__)
    with pytest.raises(ModuleNotFoundError, match="espeakng_loader"):  # the command names the extra
        generate(tmp_path / "out", CORPUS)
    assert not (tmp_path / "out").exists()


@needs_voice
def test_a_second_call_restores_the_same_bytes(made: Path) -> None:
    before = digests(made)
    assert len(before) == CLIPS + 2
    (made / "videos" / "toybox0003.mp4").write_bytes(b"half a file")
    left = made / "videos" / ".toybox0004.mp4.tmp-1"
    left.write_bytes(b"of a run that was killed")
    generate(made, CORPUS)
    left.unlink(missing_ok=True)
    assert digests(made) == before


@needs_voice
def test_the_manifest_and_the_ground_truth(made: Path) -> None:
    manifest = CORPUS.manifest()
    assert manifest.check(made / "videos") == []
    assert manifest.card.name == "toybox"
    assert list(manifest.by_id) == list(CORPUS.clips) == [f"toybox{at:04d}" for at in range(CLIPS)]
    assert {split: count.videos for split, count in manifest.counts().items()} == dict.fromkeys(
        SPLITS, BLOCK
    )
    contents = [content_of(clip.scene) for clip in CORPUS.clips.values()]
    assert CORPUS.availability()["sound"] == sum(bool(of["sounds"]) for of in contents)
    kinds = dict(line.split(",") for line in (made / "kinds.csv").read_text().splitlines()[1:])
    assert list(kinds) == [caption.id for caption in captions_of(manifest.rows)]
    written = json.loads((made / "scenes.json").read_text(encoding="utf-8"))
    assert written["seed"] == 0
    for stored, (name, clip) in zip(written["clips"], CORPUS.clips.items(), strict=True):
        assert stored["id"] == name
        assert stored["scene"]["sign"] == clip.scene.sign
        asked = [caption.kind for caption in clip.captions]
        assert len(set(asked)) == len(asked) or clip.split == "train"
        assert asked == [kinds[f"{name}#{at}"] for at in range(len(asked))]
        row = manifest.by_id[name]
        assert row.split == clip.split
        assert row.captions == tuple(caption.text for caption in clip.captions)
        for caption in clip.captions:
            claimed = claims_of(caption.text)
            known = content_of(clip.scene)
            assert all(claimed[what] <= known[what] for what in claimed)
            unseen = not any(claimed[what] for what in ("colours", "shapes", "grounds"))
            assert unseen == (caption.kind == "unseen") or clip.split == "train"
            assert (caption.kind in ("sound", "unseen")) <= bool(claimed["sounds"])
            assert (caption.kind in ("sign", "spoken")) <= bool(claimed["words"])


@needs_voice
def test_the_streams_are_those_of_the_scene(made: Path) -> None:
    for name, clip in CORPUS.clips.items():
        text = banner(made / "videos" / f"{name}.mp4")
        assert re.search(rf"Video: h264.*{WIDTH}x{HEIGHT}.*8 fps", text)
        assert ("Audio: aac" in text) == ("Audio:" in text) == clip.scene.has_audio
        assert "Duration: 00:00:04.0" in text


@pytest.mark.parametrize(("clips", "seed"), [(CLIPS - 1, 0), (10_000, 0), (CLIPS, -1)])
def test_numbers_out_of_range_are_refused(clips: int, seed: int) -> None:
    with pytest.raises(UsageError, match="toybox: "):
        ToyboxCorpus.draw(clips, seed)


@needs_voice
def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    stray = tmp_path / "videos" / "toybox0042.mp4"
    stray.parent.mkdir()
    stray.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"toybox0042\.mp4"):
        generate(tmp_path, CORPUS)
    assert [path.name for path in tmp_path.rglob("*.mp4")] == [stray.name]
    with pytest.raises(UsageError, match="can't create the folder"):
        generate(stray, CORPUS)


def test_an_ffmpeg_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m2hf.data_manifests.toybox import clip_file, corpus

    def broken(sound: Path | None, part: Path) -> list[str]:
        return [ffmpeg_exe(), "-loglevel", "error", "-f", "nosuch", "-i", "pipe:0", str(part)]

    monkeypatch.setattr(clip_file, "_encoder", broken)
    with pytest.raises(ResourceError, match=r"clip\.mp4: ffmpeg can't write it: .*nosuch"):
        corpus.write_clip(tmp_path / "clip.mp4", PLAIN)
    assert not any(tmp_path.iterdir())


def test_all_motions_and_heights_are_drawn() -> None:
    for motion in MOTIONS:
        (shown,) = {frame.shape for frame in frames(replace(PLAIN, motion=motion))}
        assert shown == (HEIGHT, WIDTH, 3)
