"""`python -m benchmarks.toybox.pack --data DIR`: make the precomputed features that ship with
the default toybox.

DIR has the manifest of `m2hf manifest toybox --out DIR`, and in DIR/store the output of `m2hf
extract --config demo` on all its clips. Run it again when OCR, ASR, decoding or the clips change:
tests/data_manifests/toybox/test_precomputed.py then fails.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from m2hf.data_manifests.toybox import precomputed
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest
from m2hf.shard import Shard

FOLDER = Path(__file__).parents[2] / "data_manifests" / "toybox" / "precomputed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a shard of one bucket for each extractor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toybox.pack", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args(arguments)
    manifest = Manifest.load(given.data / "manifest")
    layout = StoreLayout.open(given.data / "store", manifest.card.name)
    kept = {row.id for row in manifest.rows if row.split != "test"}
    for name in precomputed.EXTRACTORS:
        shards = [Shard.open(path) for path in layout.shards(layout.find_stream(name))]
        items = [item for shard in shards for item in shard.items() if item.id in kept]
        path = given.out / f"{name}.h5"
        precomputed.write_subset(path, shards[0], items, manifest, bucket=0, buckets=1)
        print(f"{path}: {len(items)} clips, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
