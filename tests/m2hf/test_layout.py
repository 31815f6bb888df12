"""The folders of a store: number of buckets, and streams by name."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from mutations import mutated_json, refused_in_one_line

from m2hf.errors import MismatchError, SchemaError, UsageError
from m2hf.layout import StoreLayout, default_buckets


def test_the_number_of_buckets_is_fixed_when_a_store_begins(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "a/b")
    assert layout.folder.name == "a%2Fb"
    assert layout.buckets(0, videos=12) == 8
    layout.record(8)
    assert layout.buckets(0, videos=10**6) == 8
    with pytest.raises(MismatchError, match="the store has 8 buckets and the config wants 4"):
        layout.buckets(4, videos=100)
    assert json.loads((layout.folder / "store.json").read_text())["buckets"] == 8


@pytest.mark.parametrize(
    ("videos", "buckets"), [(1, 1), (21, 8), (60, 16), (10**4, 128), (10**6, 4096)]
)
def test_buckets_grow_with_the_set(videos: int, buckets: int) -> None:
    assert default_buckets(videos) == buckets


def test_a_stream_is_found_by_name_if_it_is_the_only_one(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "d")
    with pytest.raises(UsageError, match=r"no features of 'clip'; the store has no streams yet"):
        layout.find_stream("clip")
    layout.stream("clip", "a" * 64).mkdir(parents=True)
    assert layout.find_stream("clip") == "clip@aaaaaaaa"
    layout.stream("clip", "b" * 64).mkdir()
    assert layout.find_stream("clip@bbbbbbbb") == "clip@bbbbbbbb"
    with pytest.raises(UsageError, match=r"more than one config; name one of clip@aaaaaaaa"):
        layout.find_stream("clip")


def test_other_folders_are_no_streams(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "d")
    for name in ("clip@aaaaaaaa", "asr@bbbbbbbb", "clip@aaaaaaaa.bak", "ledger"):
        (layout.folder / name).mkdir(parents=True)
    (layout.folder / "ocr@cccccccc").write_text("a file", encoding="utf-8")
    assert layout.streams() == ["asr@bbbbbbbb", "clip@aaaaaaaa"]
    assert layout.streams("clip") == ["clip@aaaaaaaa"]
    assert layout.streams("ocr") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"buckets": 1000000000, "schema": 1}', "buckets = 1000000000, expected 1 to 262144"),
        ('{"buckets": 0, "schema": 1}', "buckets = 0, expected"),
        ('{"buckets": true, "schema": 1}', "buckets = True, expected"),
        ('{"buckets": "8", "schema": 1}', "buckets = '8', expected"),
        ('{"schema": 1}', "buckets = None, expected"),
        ('{"buckets": 8}', "schema None, this m2hf reads 1"),
        ('{"buckets": 8, "schema": 2}', "schema 2, this m2hf reads 1"),
        ('{"buckets": 8, "buckets": 9, "schema": 1}', "'buckets' occurs twice"),
        ("[8]", "expected a JSON object"),
        ("", "not JSON"),
    ],
)
def test_a_malformed_record_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    layout = StoreLayout(tmp_path, "a")
    layout.folder.mkdir()
    (layout.folder / "store.json").write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=rf"a/store\.json: .*{message}"):
        layout.buckets(0, videos=12)


def test_a_config_that_wants_too_many_buckets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"extract\.buckets = 1000000000, expected at most 262144"):
        StoreLayout(tmp_path, "a").buckets(10**9, videos=12)


@given(mutated_json({"buckets": 8, "schema": 1}))
@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_to_the_record_is_an_error_or_a_number(tmp_path: Path, data: bytes) -> None:
    layout = StoreLayout(tmp_path, "a")
    layout.folder.mkdir(exist_ok=True)
    (layout.folder / "store.json").write_bytes(data)
    with refused_in_one_line(SchemaError, "store.json: "):
        assert 1 <= layout.buckets(0, videos=12) <= 262144
