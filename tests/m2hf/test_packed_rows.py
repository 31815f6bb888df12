"""Packed rows: the rows that were packed, by index, by split, by id and by bucket."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.keys import canonical_json, group_by_bucket, sha256_hex
from m2hf.manifest import Card, Manifest, Row
from m2hf.packed_rows import PackedRows, RowsByBucket

CARD = Card(name="set", protocol="multi_caption", flags={"text": ("from scripts",)})
IDS = st.text(st.sampled_from('ab",\\:éz🙂 '), min_size=1, max_size=6).filter(
    lambda item: item == item.strip()
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.builds(
        Row,
        id=IDS,
        path=st.sampled_from(["a.mp4", ',"path":', "é/b"]),
        split=st.sampled_from(["train", "val", "test"]),
        captions=st.lists(TEXTS, max_size=2).map(tuple),
        start=st.none() | st.floats(0, 9),
        end=st.none() | st.floats(10, 99),
    ),
    unique_by=lambda row: row.id,
    max_size=8,
)


@given(ROWS, st.integers(1, 5))
@settings(deadline=None)
def test_packed_rows_are_the_rows(rows: list[Row], buckets: int) -> None:
    packed = PackedRows.of(rows)
    assert list(packed) == rows
    assert list(packed.ids()) == [row.id for row in rows]
    assert list(packed[1:3]) == rows[1:3]
    assert packed.repeated_ids() == []
    assert packed == PackedRows.of(rows)
    assert (packed == PackedRows.of(rows[::-1])) == (rows == rows[::-1])
    of_train = [row for row in rows if row.split == "train"]
    assert list(packed.where(lambda row: row.split == "train")) == of_train
    by_id = sorted(rows, key=lambda row: row.id)
    grouped = group_by_bucket(by_id, buckets, lambda row: row.id)
    found = RowsByBucket(packed, buckets)
    for bucket in range(buckets):
        assert found[bucket] == grouped.get(bucket, [])
        assert found.count(bucket) == len(grouped.get(bucket, []))


@given(ROWS)
@settings(deadline=None)
def test_the_digest_is_that_of_the_whole_text(rows: list[Row]) -> None:
    whole = [CARD.model_dump(), sorted(row.model_dump_json() for row in rows)]
    assert Manifest(CARD, rows).digest == sha256_hex(canonical_json(whole).encode())


def test_repeated_ids_come_in_the_order_of_their_first_rows() -> None:
    def row(item: str) -> Row:
        return Row(id=item, path="x", split="test")

    assert PackedRows.of(map(row, ["b", "a", "c", "a", "b", "a"])).repeated_ids() == ["b", "a"]


def test_long_ids_that_begin_alike_are_sorted_by_the_rest() -> None:
    ids = ["x" * 30 + end for end in "bca"] + ["a", "x" * 23, "x" * 24, "x" * 30]
    packed = PackedRows.of(Row(id=item, path="x", split="test") for item in ids)
    assert list(packed.sorted_json()) == sorted(row.model_dump_json() for row in packed)


def test_an_index_beyond_the_end_is_an_error() -> None:
    packed = PackedRows.of([Row(id="a", path="x", split="test")])
    assert packed[-1] == packed[0]
    with pytest.raises(IndexError):
        packed[1]
    assert list(packed.chosen(np.array([0, 0]))) == [packed[0]] * 2
