"""CSV is read strictly: what a line has is read, or is a problem of that line."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.data_manifests.csv_table import decode_utf8, read_table
from m2hf.data_manifests.problems import Problems
from m2hf.errors import ManifestError

NEEDED = ("id", "caption")
FILE = Path("c.csv")


def rows(text: str) -> list[dict[str, str]]:
    problems = Problems(FILE)
    table = read_table(FILE, text, NEEDED, problems)
    problems.raise_if_any()
    return [row.fields for row in table.rows]


def problems_of(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        rows(text)
    message = str(caught.value)
    assert message.isprintable()
    return message


cell = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)


@given(st.lists(st.tuples(cell, cell, cell), max_size=6), st.sampled_from(",;\t|"))
def test_what_a_csv_writer_writes_is_read(
    cells: list[tuple[str, str, str]], separator: str
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "caption", "split"), *cells])
    expected = [dict(zip(("id", "caption", "split"), row, strict=True)) for row in cells]
    assert rows(stream.getvalue()) == [row for row in expected if "".join(row.values()).strip()]


@given(st.lists(st.text(st.sampled_from('ab,;"\n '), max_size=8), min_size=2, max_size=2))
def test_no_character_of_an_unquoted_line_is_dropped_in_silence(cells: list[str]) -> None:
    line = ",".join(cells)
    try:
        read = rows(f"id,caption\n{line}")
    except ManifestError:
        return
    kept = "".join(row["id"] + row["caption"] for row in read)
    for letter in "ab;":
        assert kept.count(letter) == line.count(letter)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,caption\na,one, two\n",
            "line 2: 3 fields, more than the 2 of the header; put a field",
        ),
        ("id,caption,,\na,one, two,\n", "line 2: ' two' is in a column without a name"),
        ("id,caption\na\n", "line 2: no caption: the line is too short; give each line the fields"),
        ('id,caption\na,"one\nb,two\n', "line 2: a quote is opened and never closed"),
        ('id,caption\na,"one" two\n', "line 2: text follows a closing quote"),
        ("id,caption\na," + "x" * 200_000, "line 2: a field of more than 131072 characters"),
        ("id,caption,caption\n", "line 1: column caption occurs twice; remove one"),
        ("\n\nid;text\n", r"line 3: the header is id;text, expected id,caption, separated by com"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(text: str, message: str) -> None:
    assert f"c.csv, {message}" in problems_of(text)


def test_all_problems_are_in_one_message_and_reading_goes_on_after_a_bad_quote() -> None:
    assert problems_of('id,caption\na,"x" y\nb,one, two\nc,fine\nd\n') == (
        "c.csv: 3 problems: line 2: text follows a closing quote; line 3: 3 fields, more than the "
        "2 of the header; line 5: no caption: the line is too short. To do: put a field that has a "
        'separator or a quote in quotes, and double a quote in it: ""; give each line the fields '
        "of the header, with the header's separator"
    )


def test_a_message_is_bounded() -> None:
    message = problems_of("id,caption\n" + "a,one,two\n" * 500)
    assert "c.csv: 500 problems: line 2: " in message
    assert "line 11: 3 fields, more than the 2 of the header; and 490 more. To do" in message
    assert len(message) < 2000
    message = problems_of("id,caption\n" + '"a" b\n' * 1500)
    assert "c.csv: 1001 problems: " in message, "the rest of such a file is not read"


def test_the_separator_is_that_of_the_header() -> None:
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        text = f"id{separator}caption\na{separator}one, two\n"
        table = read_table(FILE, text, NEEDED, Problems(FILE))
        assert [row.fields for row in table.rows] == [{"id": "a", "caption": "one, two"}]
        assert [str(r) for r in table.remarks("c.csv")] == [
            f"c.csv: fields are separated by {word}"
        ]
    assert read_table(FILE, "id,caption\na,b;c\n", NEEDED, Problems(FILE)).remarks("c.csv") == []


def test_blank_lines_padding_and_the_separator_line_of_spreadsheets_are_no_rows() -> None:
    expected = [{"id": "a", "caption": "x"}]
    assert rows("sep=;\nid;caption;;\na;x;;\n\n;;;\n  \n") == expected
    assert rows(" id , caption\r\na,x\r\n") == expected
    assert rows("id,caption\ra,x\r") == expected


def test_lines_are_counted_from_where_a_row_begins() -> None:
    problems = Problems(FILE)
    table = read_table(FILE, 'id,caption\na,"x\ny"\nb,z\n', NEEDED, problems)
    assert [(row.line, row.continued) for row in table.rows] == [(2, ('y"\n',)), (4, ())]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("id,café".encode("utf-16"), "line 1: not UTF-8 but UTF-16, by its byte order mark; save"),
        ("id".encode("utf-32"), "line 1: not UTF-8 but UTF-32, by its byte order mark; save"),
        ("id\n".encode("utf-16-le"), "line 1: has a NUL character"),
        (b"id\na,caf\xe9\n", "line 2: not UTF-8; as Windows-1252 it has 'a,café'; save it as UTF"),
    ],
)
def test_another_encoding_is_refused_with_line_and_remedy(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        decode_utf8(FILE, data)
    assert f"c.csv, {message}" in str(caught.value)


def test_every_line_that_is_not_utf8_is_named() -> None:
    with pytest.raises(ManifestError, match=r"c.csv: 30 problems: line 2: .*; line 20: .*20 more"):
        decode_utf8(FILE, b"id\n" + b"\xe9\nok\n" * 30)


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\ufeff")))
def test_utf8_is_read_with_and_without_a_mark(text: str) -> None:
    assert decode_utf8(FILE, text.encode()) == decode_utf8(FILE, text.encode("utf-8-sig")) == text


@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_one_line(data: bytes) -> None:
    refusal = ""
    try:
        rows(decode_utf8(FILE, data))
    except ManifestError as error:
        refusal = str(error)
    assert refusal.isprintable()
