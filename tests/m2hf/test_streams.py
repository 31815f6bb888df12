"""Stream names: what is formatted is parsed again, and other text is refused."""

import copy
import pickle  # noqa: TID251 - how a name reaches a worker
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.keys import canonical_json
from m2hf.streams import StreamName, extractor_of, is_extractor_name

EXTRACTORS = st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True)
FINGERPRINTS = st.text("0123456789abcdef", min_size=8, max_size=64)


@given(EXTRACTORS, FINGERPRINTS)
def test_a_name_is_parsed_as_it_was_formatted(extractor: str, fingerprint: str) -> None:
    name = StreamName.of(extractor, fingerprint)
    assert StreamName(str(name)) == name
    assert (name.extractor, name.fingerprint8) == (extractor, fingerprint[:8])
    assert StreamName.of(name.extractor, name.fingerprint8) == name
    assert extractor_of(name) == extractor_of(extractor) == extractor
    assert is_extractor_name(extractor)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    try:
        name = StreamName(text)
    except ValueError:
        return
    assert StreamName.of(name.extractor, name.fingerprint8) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "clip", "@", "clip@", "@12345678", "clip@1234567", "clip@123456789", "clip@1234567G",
        "clip@1234567A", "Clip@12345678", "1clip@12345678", "a@b@12345678", "a/b@12345678",
        "clip@12345678\n", " clip@12345678", "clip@12345678.bak",
    ],
)  # fmt: skip
def test_bad_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a stream name: expected <extractor>@<8 hex"):
        StreamName(text)


@pytest.mark.parametrize(("extractor", "fingerprint"), [("clip", "1234567"), ("a@b", "0" * 64)])
def test_bad_parts_are_refused(extractor: str, fingerprint: str) -> None:
    with pytest.raises(ValueError, match="is not a stream name"):
        StreamName.of(extractor, fingerprint)


def test_a_name_is_a_string() -> None:
    name = StreamName.of("clip", "12345678")
    assert name == "clip@12345678"
    assert hash(name) == hash("clip@12345678")
    assert Path("store") / name == Path("store/clip@12345678")
    assert canonical_json({name: name}) == '{"clip@12345678":"clip@12345678"}'
    for same in (copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
        assert type(same) is StreamName
        assert same == name
