"""The loss of a gallery in blocks: that of the whole, whatever the blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.model.contrastive import info_nce
from m2hf.fuse.training.validation_loss import gallery_loss


@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 8), st.integers(0, 99))
@settings(deadline=None)
def test_blocks_give_the_loss_of_the_whole(q: int, v: int, size: int, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    logits = 30 * torch.randn(q, v, generator=made)
    positives = torch.randint(0, v + 1, (q, 1), generator=made) == torch.arange(v)  # v: in none
    blocks = list(zip(logits.split(size), positives.split(size), strict=True))
    whole = float(info_nce(logits, positives))
    assert gallery_loss(blocks) == pytest.approx(whole, abs=1e-5)
    assert gallery_loss([(logits, positives)]) == whole


def test_no_query_has_no_loss() -> None:
    assert gallery_loss([]) == 0
