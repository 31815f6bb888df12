"""Strict TOML and JSON: plain data, or one line that says what is wrong and where."""

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated_json, refused_in_one_line

from m2hf.errors import ConfigError, ManifestError, SchemaError, UsageError
from m2hf.plain_data import csv_rows, json_object, json_value, read_bytes, read_text, shown, toml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"a": 1, "a": 2}', "key 'a' occurs twice"),
        ('{"b": {"a": 1, "a": 2}}', "key 'a' occurs twice"),
        ('["a\\u0000b"]', "a NUL character in"),
        ('{"a\\u0000": 1}', "a NUL character in"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "beyond the range of a float"),
        ("9" * 5000, "not JSON: Exceeds the limit"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        json_value(text, "here", ManifestError)
    assert str(caught.value).startswith("here: not JSON")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not TOML: Invalid value"),
        ("a = 1\na = 2", "not TOML: Cannot overwrite"),
        ("a = " + "9" * 5000, "not TOML: Exceeds the limit"),
        ('a = "\\u0000"', "a NUL character"),
        ("a = " + "[" * 100_000, "nested too deep"),
    ],
)
def test_toml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toml(text, "here", ConfigError)


def test_what_is_plain_data_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xa4\\ud83d\\ude00"]}')
    assert json_object(read_text(path, "a"), "a") == {"a": [1, 2.5, None, "ä😀"]}
    with pytest.raises(SchemaError, match=r"here: expected a JSON object, got \[1\]"):
        json_object("[1]", "here", SchemaError)
    path.write_bytes(b"\xff")
    with pytest.raises(SchemaError, match=r"here: not UTF-8 \(byte 0\)"):
        read_text(path, "here", SchemaError)
    with pytest.raises(SchemaError, match="here: No such file"):
        read_text(tmp_path / "none", "here", SchemaError)


def test_a_value_is_shown_in_one_short_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert shown(10**6000) == "a huge int"
    assert len(shown("x" * 1000)) <= 80
    assert len(shown([["x" * 1000] * 1000] * 1000)) <= 80


@given(mutated_json({"a": [1, {"b": "c"}], "d": 1.5}))
@settings(deadline=None, max_examples=100)
def test_any_damage_is_one_line_or_plain_data(data: bytes) -> None:
    with refused_in_one_line(SchemaError, "here: "):
        json_value(data.decode(errors="surrogateescape"), "here", SchemaError)


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=100)
def test_any_text_is_one_line_or_a_table(text: str) -> None:
    with refused_in_one_line(ConfigError, "here: "):
        toml(text, "here", ConfigError)


def test_a_file_without_read_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    for read in (read_text, read_bytes):
        with pytest.raises(UsageError, match=f"^permission denied: {tmp_path}: this user may not"):
            read(tmp_path, "here", ManifestError)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for read in (read_text, read_bytes):
        with pytest.raises(SchemaError, match=r"^here: Is a directory$"):
            read(tmp_path, "here", SchemaError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b,c\n", "here: no column 'a'; the header is 'b,c', expected a"),
        ("", "here: no column 'a'; the header is '', expected a"),
        ("a,b\n1,2,3\n", "here, line 2: more fields than the 2 of the header"),
        ('a,b\n1,"2\n', "here, line 2: not CSV: unexpected end of data"),
        ('a,b\n1,"2"3\n', "here, line 2: not CSV: "),
        (f"a,b\n1,{'x' * 200_000}\n", "here, line 2: not CSV: field larger than"),
    ],
)
def test_csv_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        list(csv_rows(text, "here", ("a",), ManifestError))
    assert "\n" not in str(caught.value)


def test_csv_rows_have_their_line_and_absent_fields_are_empty() -> None:
    rows = list(csv_rows('a,b\n1\n"x\ny",2\n', "here", ("a",)))
    assert rows == [
        ("here, line 2", {"a": "1", "b": ""}),
        ("here, line 4", {"a": "x\ny", "b": "2"}),
    ]
