"""Projections start at ridge regression: the first scores are those of the closed form."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from m2hf.array_types import FloatArray
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.statistics import ColumnStatistics
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.model.tokens import Tokens
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.fuse.scores.ridge import Regressions
from m2hf.fuse.training.start import start_at_ridge, starts_at_ridge

WIDTHS = {FRAMES: 7, CAPTIONS: 6, "text": 5}
SPACES: dict[tuple[str, ...], dict[str, int]] = {  # of what is not projected
    (FRAMES,): {"text": 6},
    (FRAMES, "text"): {},
    (CAPTIONS, FRAMES, "text"): {},
    (CAPTIONS,): {"text": 7},
    (CAPTIONS, "text"): {},
    ("text",): {FRAMES: 6},
}


def config(project: tuple[str, ...], joint: int = 0) -> FusionConfig:
    levels = {name: {"enabled": False} for name in ("audio_visual", "motion_visual")}
    model = {"width": 8, "heads": 2, "joint": joint}
    return FusionConfig.model_validate({"project": project, "levels": levels, "model": model})


def part(seed: int, videos: int, widths: Mapping[str, int]) -> PooledSplit:
    """Every stream shows what two captions a video say; the last video has no text."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(9)
    seen = rng.normal(size=(videos, 4))
    shown = {
        role: 3 + seen @ mixing.normal(size=(4, width)) + 0.7 * rng.normal(size=(videos, width))
        for role, width in widths.items()
    }
    owner = np.repeat(np.arange(videos), 2)
    sentences = shown.pop(CAPTIONS)[owner] + 0.5 * rng.normal(size=(2 * videos, widths[CAPTIONS]))
    there = {role: np.ones(videos, dtype=np.bool_) for role in shown}
    there["text"][-1] = False
    shown["text"][-1] = 0.0
    return PooledSplit(unit_rows(sentences), np.ones(2 * videos, np.bool_), owner, shown, there)


def statistics(split: PooledSplit) -> dict[str, ColumnStatistics]:
    """Any centre and scale will do."""
    rows = {**split.pooled, CAPTIONS: split.queries_QD}
    return {
        role: ColumnStatistics(*(np.float32(f(axis=0)) for f in (values.mean, values.std)))
        for role, values in rows.items()
    }


def started(project: tuple[str, ...], joint: int = 0) -> tuple[M2HF, PooledSplit, PooledSplit]:
    widths = WIDTHS | SPACES[project]
    train, val = part(0, 80, widths), part(1, 30, widths)
    torch.manual_seed(0)
    model = M2HF(config(project, joint), widths).eval()
    model.standardise(statistics(train).__getitem__)
    start_at_ridge(model, Regressions(train, val))
    return model, train, val


def scores(model: M2HF, split: PooledSplit) -> dict[str, FloatArray]:
    """(Q, V) by level, of videos of three rows with the pooled mean."""
    noise = np.random.default_rng(2).normal(size=(len(split.present[FRAMES]), 3, 1))
    streams = {}
    for role, values_VX in split.pooled.items():
        rows = values_VX[:, None] + noise - noise.mean(axis=1, keepdims=True)
        streams[role] = tokens(rows, split.present[role])
    with torch.no_grad():
        found = model({CAPTIONS: tokens(3 * split.queries_QD[:, None], split.present_Q)}, streams)
    return dict(zip(model.level_names, found.levels.double().numpy(), strict=True))


def tokens(values: FloatArray, present: np.ndarray) -> Tokens:
    mask = torch.from_numpy(present)[:, None].expand(values.shape[:2])
    return Tokens(torch.from_numpy(values).float(), mask, torch.zeros(values.shape[:2]))


def closed(role: str, train: PooledSplit, val: PooledSplit) -> FloatArray:
    best = Regressions(train, val).fitted([role], role)
    queries_QD, videos_VD = best.ridge.embed(val, best.strength)
    scores_QV: FloatArray = queries_QD @ videos_VD.T
    return scores_QV


@pytest.mark.parametrize("project", [(FRAMES,), (FRAMES, "text"), (CAPTIONS, FRAMES, "text")])
def test_the_first_scores_are_those_of_ridge(project: tuple[str, ...]) -> None:
    model, train, val = started(project)
    found = scores(model, val)
    np.testing.assert_allclose(found["visual"], closed(FRAMES, train, val), atol=1e-5)
    if "text" in project:
        there = val.present["text"]
        ridge = closed("text", train, val)
        np.testing.assert_allclose(found["text"][:, there], ridge[:, there], atol=1e-5)


@pytest.mark.parametrize("joint", [9, 6, 4])
def test_a_joint_space_of_any_width_ranks_as_ridge_as_far_as_it_has_room(joint: int) -> None:
    """Of four factors, four directions hold nearly all."""
    model, train, val = started((CAPTIONS, FRAMES, "text"), joint)
    found, ridge = scores(model, val)["visual"], closed(FRAMES, train, val)
    if joint >= WIDTHS[CAPTIONS]:
        np.testing.assert_allclose(found, ridge, atol=1e-5)
    assert np.corrcoef(found.ravel(), ridge.ravel())[0, 1] > 0.95


def test_projected_captions_rank_as_ridge_up_to_the_length_of_a_video() -> None:
    model, train, val = started((CAPTIONS,))
    best = Regressions(train, val).fitted([FRAMES], FRAMES)
    ridge = best.ridge
    centred_VX = val.pooled[FRAMES] - statistics(train)[FRAMES].mean_D
    projected_VD = (val.pooled[FRAMES] - ridge.centre[FRAMES]) @ ridge.weights(best.strength)
    shorter_V = np.linalg.norm(projected_VD, axis=1) / np.linalg.norm(centred_VX, axis=1)
    expected = closed(FRAMES, train, val) * shorter_V
    found = scores(model, val)["visual"]
    np.testing.assert_allclose(unit_rows(found), unit_rows(expected), atol=1e-4)


def test_a_stream_is_projected_to_where_captions_are_mapped() -> None:
    model, _, val = started((CAPTIONS, "text"))
    there = val.present["text"]
    own = scores(model, val)["text"][np.arange(60), val.video_of_query]
    others = scores(model, val)["text"][:, there].mean(axis=1)
    assert (own - others)[there[val.video_of_query]].mean() > 0.3


def test_where_captions_are_not_centred_their_mean_favours_no_video() -> None:
    model, train, val = started(("text",))
    mean_D = train.queries_QD.mean(axis=0, keepdims=True)
    one = PooledSplit(
        unit_rows(mean_D), np.ones(1, np.bool_), np.zeros(1, np.int64), val.pooled, val.present
    )
    there = val.present["text"]
    np.testing.assert_allclose(scores(model, one)["text"][:, there], 0, atol=1e-5)
    found, ridge = scores(model, val), closed("text", train, val)
    assert np.corrcoef(found["text"][:, there].ravel(), ridge[:, there].ravel())[0, 1] > 0.9
    zero_shot = val.queries_QD @ unit_rows(val.pooled[FRAMES]).T
    np.testing.assert_allclose(found["visual"], zero_shot, atol=1e-6)


def test_projected_videos_start_about_as_long_as_unit_rows() -> None:
    model, train, _ = started((FRAMES,))
    rows = tokens(train.pooled[FRAMES][:, None], train.present[FRAMES])
    with torch.no_grad():
        lengths = model.adapters[FRAMES](model.standardisers[FRAMES](rows).values).norm(dim=-1)
    assert float(lengths.mean()) == pytest.approx(1.0, abs=1e-3)


def test_a_stream_that_no_training_video_has_starts_at_zero() -> None:
    widths = WIDTHS | SPACES[FRAMES, "text"]
    train, val = part(0, 80, widths), part(1, 30, widths)
    for split in (train, val):
        split.present["text"][:] = False
        split.pooled["text"][:] = 0
    model = M2HF(config((FRAMES, "text")), widths).eval()
    start_at_ridge(model, Regressions(train, val))
    weights = model.adapters["text"].state_dict()
    assert all((weight == 0).all() for weight in weights.values())
    assert np.isfinite(scores(model, val)["visual"]).all()


def test_it_is_for_projections_that_are_meant_to() -> None:
    assert starts_at_ridge(config((FRAMES,)))
    assert not starts_at_ridge(config(()))
    assert not starts_at_ridge(config(("text",)).only("visual"))
    for form in ("linear", "adapted"):
        given = {"project": (FRAMES,), "model": {"projection": form}}
        assert not starts_at_ridge(FusionConfig.model_validate(given))


def fused_config(project: tuple[str, ...], fusion: str = "aligned") -> FusionConfig:
    """The frames, and the frames with a stream, which `part` calls text."""
    given = config(()).model_dump()
    given["levels"]["text"]["enabled"] = False
    given["levels"]["text_visual"] = {"stream": "text", "fusion": fusion}
    return FusionConfig.model_validate({**given, "project": project})


def fused(
    project: tuple[str, ...], fusion: str = "aligned"
) -> tuple[M2HF, PooledSplit, PooledSplit]:
    """Frames show two of the four factors of a caption, the stream all of them."""
    splits = train, val = part(0, 200, WIDTHS), part(1, 60, WIDTHS)
    for split in splits:
        split.pooled[FRAMES][:, 2:] = 0.1 * split.pooled[FRAMES][:, :1]
    torch.manual_seed(0)
    model = M2HF(fused_config(project, fusion), WIDTHS).eval()
    model.standardise(statistics(train).__getitem__)
    start_at_ridge(model, Regressions(train, val))
    return model, train, val


def test_a_fused_level_starts_at_what_its_streams_tell_together() -> None:
    model, train, val = fused((FRAMES,))
    found = scores(model, val)
    rank = {name: -val.result(scores_QV, FRAMES)[1] for name, scores_QV in found.items()}
    best = Regressions(train, val).fitted([FRAMES, "text"], FRAMES)
    queries_QD, videos_VD = best.ridge.embed(val, best.strength)
    together = -val.result(queries_QD @ videos_VD.T, FRAMES)[1]
    assert rank["text_visual"] < 0.7 * rank["visual"]
    assert rank["text_visual"] < 1.15 * together
    silent = ~val.present["text"]
    assert silent.any()
    np.testing.assert_array_equal(found["text_visual"][:, silent], found["visual"][:, silent])


def test_a_fused_level_starts_no_lower_than_its_frames_on_validation() -> None:
    """A stream of noise is left out, or chosen for what it adds."""
    for seed in range(3):
        train, val = part(0, 80, WIDTHS), part(1, 30, WIDTHS)
        rng = np.random.default_rng(seed)
        for split in (train, val):
            split.pooled["text"][:-1] = rng.normal(size=split.pooled["text"][:-1].shape)
        model = M2HF(fused_config((FRAMES,)), WIDTHS).eval()
        model.standardise(statistics(train).__getitem__)
        start_at_ridge(model, Regressions(train, val))
        found = scores(model, val)
        visual, both = (val.result(found[name], FRAMES) for name in ("visual", "text_visual"))
        assert both[0] >= visual[0]


def test_where_frames_are_in_the_space_of_captions_a_fused_level_starts_at_the_frames() -> None:
    train, val = part(0, 80, WIDTHS | {FRAMES: 6}), part(1, 30, WIDTHS | {FRAMES: 6})
    model = M2HF(fused_config(()), WIDTHS | {FRAMES: 6}).eval()
    model.standardise(statistics(train).__getitem__)
    found = scores(model, val)
    np.testing.assert_array_equal(found["text_visual"], found["visual"])


@pytest.mark.parametrize("fusion", ["add", "append", "concat"])
def test_other_forms_start_as_they_are_built(fusion: str) -> None:
    model, _, _ = fused((FRAMES,), fusion)
    torch.manual_seed(0)
    built = M2HF(fused_config((FRAMES,), fusion), WIDTHS)
    for name, value in built.levels.state_dict().items():
        torch.testing.assert_close(model.levels.state_dict()[name], value)
