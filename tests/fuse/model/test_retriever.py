"""Padding, order and missing modalities never change what they must not."""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m2hf.fuse.config import FusionConfig, ModelConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.model.completion import COMPLETIONS
from m2hf.fuse.model.early import EARLY_FORMS, AppendFusion
from m2hf.fuse.model.late_fusion import AffineFusion
from m2hf.fuse.model.retriever import M2HF, build_model
from m2hf.fuse.model.scorers import SCORERS, mean_score, unit
from m2hf.fuse.model.tokens import Tokens, caption_tokens, masked_mean, video_tokens

CPU = torch.device("cpu")
WIDTHS = {"frames": 16, "captions": 16, "audio": 12, "motion": 10, "text": 16}
FUSED = ("audio_visual", "motion_visual")
LEVELS = ("visual", "audio_visual", "motion_visual", "text")


@pytest.fixture(params=[False, True], ids=["shared captions", "own captions"])
def model(config: FusionConfig, request: pytest.FixtureRequest) -> M2HF:
    """Nothing is at its neutral start, so that nothing can pass by being zero."""
    torch.manual_seed(0)
    return shaken(M2HF(with_captions(config, own=request.param), WIDTHS))


def with_captions(config: FusionConfig, own: bool) -> FusionConfig:
    model = config.model.model_copy(update={"own_captions": own})
    return config.model_copy(update={"model": model})


def shaken(model: M2HF) -> M2HF:
    """`model` in evaluation, with noise on every parameter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tokens(items: Sequence[int], width: int, seed: int, pad: int = 0) -> Tokens:
    """Random items with these numbers of rows, `pad` more columns, and noise in the padding."""
    rng = np.random.default_rng(seed)
    n = max(1, *items) + pad
    values = torch.from_numpy(rng.normal(size=(len(items), n, width)).astype(np.float32))
    mask = torch.arange(n) < torch.tensor(items)[:, None]
    return Tokens(values, mask, torch.arange(n).float().repeat(len(items), 1) + 0.5)


def streams(
    counts: Mapping[str, Sequence[int]], widths: Mapping[str, int] = WIDTHS
) -> dict[str, Tokens]:
    return {role: tokens(n, widths[role], seed) for seed, (role, n) in enumerate(counts.items())}


def padded(item: Tokens, extra: int) -> Tokens:
    """`item` with `extra` columns of nonsense under a False mask."""
    b, _, d = item.values.shape
    return Tokens(
        torch.cat([item.values, torch.full((b, extra, d), 7.0)], dim=1),
        torch.cat([item.mask, torch.zeros(b, extra, dtype=torch.bool)], dim=1),
        torch.cat([item.time_s, torch.full((b, extra), 99.0)], dim=1),
    )


COUNTS = {
    "frames": [3, 5, 0, 1],
    "audio": [2, 0, 4, 1],
    "motion": [0, 0, 0, 0],
    "text": [0, 2, 1, 0],
}


@torch.no_grad()
def test_availability(model: M2HF) -> None:
    scores = model({CAPTIONS: tokens([1, 1], 16, 9)}, streams(COUNTS))
    assert scores.levels.shape == (4, 2, 4)
    assert scores.valid.tolist() == [
        [True, True, False, True],
        [True, True, False, True],
        [True, True, False, True],
        [False, True, False, False],
    ]


@torch.no_grad()
def test_a_missing_modality_gives_the_visual_score_exactly(model: M2HF) -> None:
    levels = model({CAPTIONS: tokens([1, 1], 16, 9)}, streams(COUNTS)).levels
    visual, audio_visual, motion_visual, _ = levels
    assert torch.equal(audio_visual[:, 1], visual[:, 1])
    assert not torch.isclose(audio_visual[:, 0], visual[:, 0]).any()
    assert torch.equal(motion_visual, visual)


def one_of(item: Tokens, place: int) -> Tokens:
    """A batch of one."""
    part = slice(place, place + 1)
    return Tokens(item.values[part], item.mask[part], item.time_s[part])


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    st.lists(st.integers(0, 4), min_size=20, max_size=20),
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
    st.integers(1, 5),
    st.tuples(
        st.sampled_from(list(EARLY_FORMS)),
        st.sampled_from(list(COMPLETIONS)),
        st.sampled_from(list(SCORERS)),
        st.sampled_from([(), ("frames",), ("text",), ("captions", "frames", "text")]),
        st.booleans(),
    ),
    st.booleans(),
    st.randoms(),
)
@example([0] * 20, [1, 0, 2], 1, ("append", "fallback", "mean", (), True), False, Random(0))
@example([0] * 20, [0] * 3, 2, ("concat", "predict", "wti", ("frames",), True), False, Random(0))
@torch.no_grad()
def test_padding_order_and_company_never_change_a_score(
    counts: list[int], words: list[int], extra: int, how: Any, constant: bool, random: Any
) -> None:
    torch.manual_seed(1)
    form, mode, scoring, project, own = how
    config = FusionConfig(
        model=ModelConfig(width=16, heads=2, dropout=0.0, own_captions=own),
        levels={name: {"fusion": form} for name in FUSED},
        completion={"mode": mode},
        scoring=scoring,
        project=project,
    )
    # A projected role may be of any width; what shares the joint space is of one.
    widths = {**WIDTHS, **{role: 9 + place for place, role in enumerate(project)}}
    model = shaken(M2HF(config, widths))
    roles = ("frames", "audio", "motion", "text")
    batch = streams({role: counts[5 * i : 5 * i + 5] for i, role in enumerate(roles)}, widths)
    if constant:  # rows without any spread, of length zero among them
        for i, item in enumerate(batch.values()):
            item.values.fill_(float(i))
    queries = tokens(words, widths["captions"], 9)
    scores = model({CAPTIONS: queries}, batch)
    assert scores.levels.isfinite().all()

    order = random.sample(range(5), 5)
    moved = {
        role: padded(Tokens(t.values[order], t.mask[order], t.time_s[order]), extra)
        for role, t in batch.items()
    }
    again = model({CAPTIONS: padded(queries, extra)}, moved)
    assert torch.equal(again.valid, scores.valid[:, order])
    torch.testing.assert_close(again.levels, scores.levels[:, :, order], rtol=0, atol=2e-6)
    fused, again_fused = (model.late(found.levels, found.valid) for found in (scores, again))
    assert fused.isfinite().all()
    torch.testing.assert_close(again_fused, fused[:, order], rtol=0, atol=2e-5)
    place = order[0]
    alone = model(
        {CAPTIONS: one_of(queries, 0)}, {role: one_of(t, place) for role, t in batch.items()}
    )
    expected = scores.levels[:, :1, place : place + 1]
    torch.testing.assert_close(alone.levels, expected, rtol=0, atol=2e-6)


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(0, 999))
@torch.no_grad()
def test_a_masked_level_never_changes_the_fused_score(known: list[bool], seed: int) -> None:
    torch.manual_seed(seed)
    late = AffineFusion(3)
    for numbers in (late.slope_L, late.bias_L, late.centre_L):
        numbers.normal_()
    valid, levels = torch.tensor(known).view(3, 4), torch.randn(3, 2, 4)
    fused = late(levels, valid)
    for nonsense in (1e30, math.nan, math.inf):
        assert torch.equal(late(levels.masked_fill(~valid[:, None], nonsense), valid), fused)
    late.standardise(levels.masked_fill(~valid[:, None], math.nan), valid)
    assert late(levels, valid).isfinite().all()


@pytest.mark.parametrize("project", [(), ("captions", "frames", "text")])
def test_all_missing_gives_numbers_and_gradients(config: FusionConfig, project: Any) -> None:
    model = shaken(M2HF(config.model_copy(update={"project": project}), WIDTHS))
    scores = model({CAPTIONS: tokens([0], 16, 9)}, streams({role: [0] for role in COUNTS}))
    fused = model.late(scores.levels, scores.valid)
    torch.autograd.backward(scores.levels.sum() + fused.sum())
    assert not scores.valid.any()
    assert scores.levels.isfinite().all()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_a_level_has_captions_of_its_own(config: FusionConfig) -> None:
    torch.manual_seed(0)
    model = shaken(M2HF(with_captions(config, own=True), WIDTHS))
    query, videos = tokens([1, 1], 16, 9), streams({**COUNTS, "motion": [2, 2, 2, 2]})
    before = model({CAPTIONS: query}, videos).levels
    for parameter in model.levels.captions["motion_visual"].parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    after = model({CAPTIONS: query}, videos).levels
    for name, one, other in zip(LEVELS, before, after, strict=True):
        assert torch.equal(one, other) == (name != "motion_visual")
    assert set(model.levels.captions) == {"audio_visual", "motion_visual", "text"}
    assert model.scale_L.tolist() != [float(model.contrast.scale)] * 4


def test_a_level_alone_has_the_shared_captions(config: FusionConfig) -> None:
    own = with_captions(config, own=True)
    alone, member = (
        M2HF(own.only("text"), WIDTHS),
        build_model(own.model_copy(update={"strategy": "ensemble"}), WIDTHS),
    )
    names = [name for model in (alone, member) for name in model.state_dict()]
    assert not [name for name in names if "captions." in name and "levels." in name]
    assert not [name for name in names if "own_temperature" in name]
    assert torch.equal(alone.scale_L, alone.contrast.scale[None])


@pytest.mark.parametrize("own", [False, True])
@torch.no_grad()
def test_step_zero_is_zero_shot(corpus: Any, config: FusionConfig, own: bool) -> None:
    config = with_captions(config, own)
    store = FeatureStore.open(corpus.store, "synthetic", config)
    model = M2HF(config, {role: info.width for role, info in store.info.items()}).eval()
    videos = ["test000", "test001", "test002"]
    captions = [f"{video}#0" for video in videos]
    scores = model(caption_tokens(store, captions, 1, CPU), video_tokens(store, videos, CPU))
    sentences = [
        store["captions"].gather([c], first=1).values_BND[0, 0].astype(np.float32) for c in captions
    ]
    frames = [store["frames"].gather([v]).values_BND[0] for v in videos]
    pooled = [rows.mean(axis=0, dtype=np.float32) for rows in frames]
    expected = [
        [q @ v / (np.linalg.norm(q) * np.linalg.norm(v)) for v in pooled] for q in sentences
    ]
    for level in scores.levels[:3]:
        np.testing.assert_allclose(level, expected, atol=1e-6)


@torch.no_grad()
def test_attention_sees_seconds_and_not_indices(config: FusionConfig) -> None:
    torch.manual_seed(0)
    early = AppendFusion(16, 12, config.model)
    frames, audio = tokens([3], 16, 1), tokens([4], 12, 2)
    swapped = Tokens(audio.values.flip(1), audio.mask, audio.time_s.flip(1))
    later = Tokens(audio.values, audio.mask, audio.time_s + 20)
    base = early(frames, audio).values
    torch.testing.assert_close(early(frames, swapped).values, base, rtol=0, atol=1e-6)
    assert not torch.allclose(early(frames, later).values, base, atol=1e-4)


def test_a_zero_vector_has_no_direction_and_no_gradient() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    out = unit(x)
    torch.autograd.backward(out.sum())
    assert out.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert x.grad is not None
    assert x.grad[0].tolist() == [0.0, 0.0]
    assert x.grad.abs().max() < 1


def test_padding_never_wins_where_all_cosines_are_negative() -> None:
    frames = tokens([2], 4, 0, pad=3)
    query = Tokens(
        -masked_mean(frames)[:, None], torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1)
    )
    assert math.isclose(float(mean_score(query, frames)), -1.0, abs_tol=1e-6)
