"""Keys, atomic writes, config, features, layout: the small parts of the contract."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf import atomic
from m2hf.config import Section, parse, read_recipe
from m2hf.errors import ConfigError, MismatchError, ResourceError, UsageError
from m2hf.features import Features, Status
from m2hf.keys import (
    bucket_of,
    canonical_json,
    fingerprint,
    group_by_bucket,
    safe_name,
    sha256_file,
    sha256_hex,
)
from m2hf.layout import StoreLayout, default_buckets


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


def test_atomic_write_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    atomic.atomic_text(target, "old")

    def fail_half_way() -> None:
        with atomic.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_half_way()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_atomic_write_verifies_before_it_replaces(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ValueError(path.read_text())

    with pytest.raises(ValueError, match="new"), atomic.atomic_write(tmp_path / "f", refuse) as t:
        t.write_text("new")
    assert not (tmp_path / "f").exists()


def test_atomic_write_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".f.tmp-1").write_text("left")
    atomic.atomic_text(tmp_path / "f", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_atomic_write_leaves_what_another_writer_may_still_write(tmp_path: Path) -> None:
    host = socket.gethostname()
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {f"{host}-{dead.pid}": 0, f"{host}-{os.getppid()}": 0, "far-7": 0, "gone-7": 2}
    for writer, days in names.items():
        file = tmp_path / f".f.tmp-{writer}"
        file.write_text("half")
        then = time.time() - days * 86400
        os.utime(file, (then, then))
    atomic.atomic_text(tmp_path / "f", "x")
    kept = {f".f.tmp-{host}-{os.getppid()}", ".f.tmp-far-7"}
    assert {p.name for p in tmp_path.iterdir()} == {"f", *kept}


def test_a_full_disk_is_one_clear_line() -> None:
    with pytest.raises(ResourceError, match=r"/dev/full: can't write \(No space left on device\)"):
        _write_to_full_disk()


def _write_to_full_disk() -> None:
    with atomic.atomic_write(Path("/dev/full")), Path("/dev/full").open("w") as stream:
        stream.write("x")


class Inner(Section):
    threads: int = 1
    name: str = ""


class Outer(Section):
    inner: Inner = Inner()
    table: dict[str, Inner] = {}  # noqa: RUF012 - pydantic copies it


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"iner": {}}, "test: unknown key 'iner'; did you mean 'inner'?"),
        ({"inner": {"thread": 1}}, "test: unknown key 'inner.thread'; did you mean 'threads'?"),
        (
            {"table": {"a": {"thread": 1}}},
            "test: unknown key 'table.a.thread'; did you mean 'threads'?",
        ),
        ({"inner": {"xyz": 1}}, "test: unknown key 'inner.xyz'; known here: name, threads"),
    ],
)
def test_an_unknown_key_names_the_nearest(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, data, "test")
    assert str(caught.value) == message


def test_a_bad_value_says_where_and_what() -> None:
    with pytest.raises(ConfigError, match=r"test: inner.threads = 'x': .*integer"):
        parse(Outer, {"inner": {"threads": "x"}}, "test")


class Far(Section):
    inner: Inner = Inner()
    other: int = 1


class Whole(Section):
    near: Inner = Inner(threads=3, name="near")
    far: Far = Far(inner=Inner(threads=4, name="far"))


@pytest.mark.parametrize(
    ("given", "near", "far"),
    [
        ({}, (3, "near"), (4, "far")),
        ({"near": {}, "far": {"inner": {}}}, (3, "near"), (4, "far")),
        ({"near": {"threads": 9}}, (9, "near"), (4, "far")),
        ({"far": {"other": 2}}, (3, "near"), (4, "far")),
        ({"far": {"inner": {"name": "x"}}}, (3, "near"), (4, "x")),
        ({"near": Inner(threads=5)}, (5, ""), (4, "far")),
    ],
)
def test_a_table_goes_over_the_default_of_its_own_field(
    given: dict[str, object], near: tuple[int, str], far: tuple[int, str]
) -> None:
    whole = parse(Whole, given)
    found = whole.near, whole.far.inner
    assert [(inner.threads, inner.name) for inner in found] == [near, far]


def test_overrides_are_toml_or_strings(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[a]\nb = 1\nc = 2\n", encoding="utf-8")
    data = read_recipe(recipe, ["a.b=3", "a.d=ViT-B-32", "a.e=''", "f.g=[1, 2]"])
    assert data == {"a": {"b": 3, "c": 2, "d": "ViT-B-32", "e": ""}, "f": {"g": [1, 2]}}


@pytest.mark.parametrize("override", ["a", "=1", "a.b=1"])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("a = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="--set"):
        read_recipe(recipe, [override])


def test_features_are_empty_only_for_a_reason() -> None:
    empty = Features.empty("no audio stream", 4)
    assert empty.status is Status.EMPTY
    assert empty.values.shape == (0, 4)
    with pytest.raises(ValueError, match="need a reason"):
        Features(np.zeros((0, 4)), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(
    ("values", "start", "end", "message"),
    [
        (np.zeros(3), np.zeros(3), np.zeros(3), "expected"),
        (np.zeros((2, 3)), np.zeros(3), np.zeros(3), "start_s"),
        (np.full((1, 3), np.nan), np.zeros(1), np.zeros(1), "not finite"),
        (np.zeros((1, 3)), np.ones(1), np.zeros(1), "times"),
        (np.zeros((1, 3)), -np.ones(1), np.zeros(1), "times"),
    ],
)
def test_features_that_contradict_themselves_are_refused(
    values: np.ndarray, start: np.ndarray, end: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Features(values, start, end)


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
    with pytest.raises(UsageError, match=r"no features of 'clip'; the store has nothing yet"):
        layout.find_stream("clip")
    layout.stream("clip", "a" * 64).mkdir(parents=True)
    assert layout.find_stream("clip") == "clip@aaaaaaaa"
    layout.stream("clip", "b" * 64).mkdir()
    assert layout.find_stream("clip@bbbbbbbb") == "clip@bbbbbbbb"
    with pytest.raises(UsageError, match=r"more than one config; name one of clip@aaaaaaaa"):
        layout.find_stream("clip")
