"""Damaged annotation files are one line, or give a manifest that can be read back."""

import tempfile
from pathlib import Path
from random import Random

import pytest
from annotation_files import MAKERS, make
from benchmarks.fuzz import damage
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import refused_in_one_line

from m2hf.data_manifests.build import build
from m2hf.errors import UsageError
from m2hf.keys import canonical_json
from m2hf.manifest import Manifest

DAMAGE = {".json": damage.of_json, ".csv": damage.of_csv, ".txt": damage.of_lines(damage.of_bytes)}


@pytest.mark.parametrize("name", MAKERS)
@given(seed=st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=40)
def test_any_damage_is_one_line_or_a_manifest(name: str, seed: int) -> None:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = make(name, Path(temporary) / "annotations")
        path = random.choice(sorted(folder.iterdir()))
        path.write_bytes(DAMAGE[path.suffix](random, path.read_bytes()))
        built = None
        with refused_in_one_line(UsageError):
            built = build(name, folder)
        if built is not None:
            built.save(Path(temporary) / "manifest")
            assert Manifest.load(Path(temporary) / "manifest") == built.manifest
            canonical_json(built.as_json())
