"""Levels that are dropped for each caption of a batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from m2hf.fuse.training.batch import kept_levels


def drawn_batch(
    seed: int, levels: int, captions: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numbers (L, Q), which level covers which video, and a video a caption."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(levels, captions, generator=generator)
    valid = torch.rand(levels, captions, generator=generator) < 0.6
    return drawn, valid, torch.eye(captions, dtype=torch.bool)


@given(
    seed=st.integers(0, 999),
    levels=st.integers(1, 5),
    captions=st.integers(1, 9),
    dropout=st.floats(0, 0.99),
)
def test_a_level_that_covers_the_video_stays(
    seed: int, levels: int, captions: int, dropout: float
) -> None:
    drawn, valid, positives = drawn_batch(seed, levels, captions)
    kept = kept_levels(drawn, dropout, valid, positives)
    assert ((kept & valid).any(dim=0) == valid.any(dim=0)).all()
    assert kept[drawn >= dropout].all()
    assert (kept & (drawn < dropout)).sum(dim=0).max() <= 1


def test_each_level_is_dropped_as_often_as_asked() -> None:
    drawn, valid, positives = drawn_batch(0, 4, 2000)
    dropped = ~kept_levels(drawn, 0.3, torch.ones_like(valid), positives)
    # One of four that are all drawn stays: 0.3 less 0.3 ** 4 / 4.
    torch.testing.assert_close(
        dropped.float().mean(dim=1), torch.full((4,), 0.298), rtol=0, atol=0.04
    )
