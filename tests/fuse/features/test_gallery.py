"""The part of a gallery that late fusion is calibrated on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.errors import UsageError
from m2hf.fuse.features.gallery import Gallery, require_captions
from m2hf.manifest import Row

VIDEOS, CAPTIONS = 12, 3
GALLERY = Gallery(
    tuple(f"v{video}#{number}" for video in range(VIDEOS) for number in range(CAPTIONS)),
    tuple(f"v{video}" for video in range(VIDEOS)),
    np.repeat(np.arange(VIDEOS), CAPTIONS),
)
masks = st.lists(st.booleans(), min_size=36, max_size=36).map(np.array)


@given(asked=masks, queries=st.integers(1, 40), videos=st.integers(1, 14))
def test_a_sample_is_of_what_is_asked_and_has_its_videos(
    asked: np.ndarray, queries: int, videos: int
) -> None:
    chosen, of = GALLERY.sample(asked, queries, videos)
    assert asked[chosen].all()
    assert len(set(chosen.tolist())) == len(chosen) <= queries
    assert of.tolist() == sorted(set(GALLERY.video_of_query[chosen].tolist()))
    assert len(of) <= videos
    if queries >= 36 and videos >= VIDEOS:
        assert sorted(chosen.tolist()) == np.flatnonzero(asked).tolist()


def test_not_the_first_captions_alone_are_drawn() -> None:
    chosen, _ = GALLERY.sample(np.ones(36, dtype=bool), 12, VIDEOS)
    assert len(set((chosen % CAPTIONS).tolist())) == CAPTIONS


def test_the_order_of_the_manifest_makes_no_difference() -> None:
    order = np.random.default_rng(0).permutation(36)
    other = Gallery(
        tuple(GALLERY.query_ids[at] for at in order),
        GALLERY.video_ids,
        GALLERY.video_of_query[order],
    )
    everything = np.ones(36, dtype=bool)
    (a, of_a), (b, of_b) = (g.sample(everything, 10, 8) for g in (GALLERY, other))
    assert [GALLERY.query_ids[q] for q in a] == [other.query_ids[q] for q in b]
    assert of_a.tolist() == of_b.tolist()


def test_rows_without_any_caption_are_refused() -> None:
    bare = Row(id="a", path="a.mp4", split="test")
    with pytest.raises(UsageError, match=r"split test: none of its 2 videos has a caption .*--cap"):
        require_captions([bare, bare], "split test")
    require_captions([bare, bare.model_copy(update={"captions": ("x",)})], "split test")
    require_captions([], "split test")
