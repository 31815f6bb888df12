"""Search without training: the zero-shot levels of a recipe, and the words of a store.

Each level of vectors is the cosine of the query and the mean row of its stream; a level of words is
the BM25 of the query and the strings. They are summed with the recipe's weights
(`fuse.levels.NAME.weight`).
"""

from pathlib import Path

from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.distributed import require_single_process
from m2hf.fuse.evaluation.zero_shot import untrained, without_training
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.level_table import FRAMES, Level
from m2hf.fuse.model.word_index import fitted
from m2hf.fuse.search.index import RUN, UNTRAINED, SearchIndex, layout_of
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, Split


def untrained_index(
    manifest: Manifest, store_root: Path, config: FusionConfig, split: Split | None = None
) -> SearchIndex:
    """Search `split`, or all videos of the manifest, with what the store has of the levels of
    `config` that need no training, and with its levels of words, enabled or not. Captions are not
    read.

    Raises ConfigError as `without_training`, UsageError where frames or videos are missing,
    MismatchError for streams that don't fit together.
    """
    require_single_process("search")
    layout = layout_of(store_root, manifest)
    chosen, remarks = _levels(config, layout)
    store = FeatureStore.open(store_root, layout.dataset, chosen, videos_only=True)
    model = untrained(chosen, store)
    ids = list(manifest.rows.ids())
    model.words = fitted(chosen, store, ids)
    for name, statistics in model.words.items():
        remarks.append(f"{name}: BM25 statistics of all {statistics.documents} videos with strings")
    flags = {role: list(info.flags) for role, info in store.info.items() if info.flags}
    return SearchIndex.of(
        model, store, layout, manifest, {RUN: [UNTRAINED, *remarks], **flags}, split
    )


def _levels(config: FusionConfig, layout: StoreLayout) -> tuple[FusionConfig, list[str]]:
    """The config of the levels that the store has the streams of, and remarks on the others."""
    chosen = without_training(config)
    remarks: list[str] = []
    levels: dict[str, Level] = {}
    for name, level in config.levels.items():
        words, stream = level.fusion == "words", config.streams[level.stream]
        wanted = words or name in chosen.trained_levels
        lacking = "" if level.stream == FRAMES else _lacking(layout, stream, strings=words)
        if wanted and lacking:
            remarks.append(f"without level {name}: {stream} {lacking}")
        levels[name] = level.model_copy(update={"enabled": wanted and not lacking})
    kept = chosen.model_copy(update={"levels": levels})
    if not kept.trained_levels:
        raise UsageError(f"{layout.folder}: no level can be searched {'; '.join(remarks)}")
    return kept, remarks


def _lacking(layout: StoreLayout, name: str, strings: bool) -> str:
    """Why a stream can't be searched, "" where it can; strings: whether for its strings."""
    if not any(name in (stream, stream.extractor) for stream in layout.streams()):
        return "is not in the store"
    return "has no strings" if strings and not Stream.open(layout, name).has_strings else ""
