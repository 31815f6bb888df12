"""Names that follow from content: canonical JSON, digests, fingerprints, buckets, file names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.keys import (
    bucket_of,
    canonical_json,
    fingerprint,
    group_by_bucket,
    safe_name,
    sha256_file,
    sha256_hex,
)


def test_fingerprint_is_of_content_not_of_order() -> None:
    assert fingerprint({"a": 1, "b": [1.5, "ü"]}) == fingerprint({"b": [1.5, "ü"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 64))
def test_a_bucket_depends_on_its_id_alone(ids: list[str], buckets: int) -> None:
    places = {i: bucket_of(i, buckets) for i in ids}
    assert all(0 <= place < buckets for place in places.values())
    assert all(bucket_of(i, buckets) == places[i] for i in reversed(ids))
    grouped = group_by_bucket(ids, buckets, lambda i: i)
    assert grouped == {
        bucket: [i for i in ids if places[i] == bucket] for bucket in set(places.values())
    }


@given(st.text(), st.text())
def test_safe_names_are_one_path_part_and_differ(a: str, b: str) -> None:
    for name in (safe_name(a), safe_name(b)):
        assert "/" not in name
        assert "\0" not in name
        assert name not in {".", ".."}
    assert (safe_name(a) == safe_name(b)) == (a == b)


def test_sha256_of_a_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert sha256_file(path) == sha256_hex(b"one")
    path.write_bytes(b"other")
    assert sha256_file(path) == sha256_hex(b"other")
