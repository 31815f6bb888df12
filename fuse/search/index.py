"""A model over a gallery, which scores any query as `m2hf eval` scores a caption.

Blocks, model and late rule are those of `m2hf eval`, so a caption of a split gets its scores of
the similarity file, up to rounding. Every late rule is defined for a single query: its statistics
come from the checkpoint, and ranks are taken within the query's own row.

V videos of the gallery, of which v in a block; L levels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2hf.array_types import BoolArray
from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.distributed import require_single_process
from m2hf.fuse.evaluation.blocks import Workspace
from m2hf.fuse.evaluation.evaluate import flags_of, resolve
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.features.stream import PaddedRows
from m2hf.fuse.level_table import FRAMES
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.levels import EncodedQueries, LevelTokens
from m2hf.fuse.model.retriever import EncodedVideos, Retriever
from m2hf.fuse.model.tokens import Tokens, video_tokens
from m2hf.fuse.model.word_index import WordBlock
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.late_rules import LATE_RULES
from m2hf.fuse.scores.similarity_file import MISSING_SCORE
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, Split
from m2hf.packed_rows import PackedRows

RUN = "run"  # role of the flags on the model
UNTRAINED = "untrained: zero-shot"
Query = Mapping[str, Features]  # of one sentence, by query role


@dataclass(frozen=True, eq=False)
class QueryScores:
    """levels_LV (L, V) float32, -1 where a level doesn't cover the video; fused_V (V,) float32,
    undefined where no level covers it."""

    levels_LV: NDArray[np.float32]
    fused_V: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """A model, and the manifest rows that it searches; layout: of the store.

    flags: by role, remarks that every result made from these features must repeat; those of the
    role RUN are on the model.
    """

    model: Retriever
    store: FeatureStore
    layout: StoreLayout
    rows: PackedRows
    flags: Mapping[str, Sequence[str]]
    _blocks: dict[int, "_Block"] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        manifest: Manifest,
        store_root: Path,
        run_dir: Path,
        config: FusionConfig | None = None,
        split: Split | None = None,
    ) -> Self:
        """Search `split`, or all videos of the manifest, with the run in `run_dir`; config: as in
        `evaluate`.

        Raises UsageError where checkpoint, store or videos are missing, MismatchError where they
        don't belong together.
        """
        require_single_process("search")
        path = RunFolder(run_dir).checkpoint
        config = resolve(path, checkpoint.read_header(path), config)
        layout = layout_of(store_root, manifest)
        store = FeatureStore.open(store_root, layout.dataset, config)
        model, header = checkpoint.load(path, store)
        model.config = config
        flags = flags_of(store, header)
        if config.strategy == "zero_shot":
            flags = {RUN: [UNTRAINED], **flags}
        return cls.of(model, store, layout, manifest, flags, split)

    @classmethod
    def of(
        cls,
        model: Retriever,
        store: FeatureStore,
        layout: StoreLayout,
        manifest: Manifest,
        flags: Mapping[str, Sequence[str]],
        split: Split | None = None,
    ) -> Self:
        """Search `split`, or all videos of the manifest, with a model in memory.

        Raises UsageError where none of the videos has frames.
        """
        model.eval()
        rows = manifest.rows if split is None else manifest.split(split)
        if not rows:
            raise UsageError(f"split {split}: the manifest has no videos in it; name another split")
        if not store[FRAMES].present(list(rows.ids())).any():
            where = "the manifest" if split is None else f"split {split}"
            raise UsageError(
                f"{layout.folder}: none of the {len(rows)} videos of {where} has frames in "
                f"stream {store[FRAMES].info.name}; extract it, or name another split"
            )
        return cls(model, store, layout, rows, flags)

    @property
    def config(self) -> FusionConfig:
        return self.model.config

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """(V,) of the gallery, in manifest order."""
        return tuple(self.rows.ids())

    @cached_property
    def valid_LV(self) -> BoolArray:
        """Which videos each level covers."""
        with repeatable(self.config) as device:
            self.model.to(device)
            return np.concatenate([block.valid_Lv for block in self._encoded(device)], axis=1)

    @property
    def covered_V(self) -> BoolArray:
        """Which videos can be found: those that some level covers."""
        covered_V: BoolArray = np.logical_or.reduce(self.valid_LV, axis=0)
        return covered_V

    def query(self, features: Query, device: torch.device) -> list[EncodedQueries]:
        """Encode the features of a query, at the precision of the stored captions.

        Raises MismatchError for another width.
        """
        return self.model.encode_queries(
            {role: self._tokens(role, features[role], device) for role in self.store.query_roles}
        )

    def _tokens(self, role: str, features: Features, device: torch.device) -> Tokens:
        captions = self.store[role]
        if features.values.shape[1] != captions.info.width:
            raise MismatchError(
                f"{self.layout.folder}: captions of width {captions.info.width}, the query has "
                f"width {features.values.shape[1]}; encode it with the encoder of the captions"
            )
        rows = features.values[None, : self.model.query_rows].astype(captions.dtype)
        there, zero_s = np.ones(rows.shape[:2], np.bool_), np.zeros(rows.shape[:2], np.float32)
        return Tokens.of(PaddedRows(rows, there, zero_s), device)

    @torch.no_grad()
    def scores(self, features: Query) -> QueryScores:
        """Scores of every level and of their fusion, for one query."""
        valid_LV, parts = self.valid_LV, []
        text = sentence_of(features) if self.model.words else ""
        with repeatable(self.config) as device:
            query = self.model.prepared_queries(self.query(features, device))
            for block in self._encoded(device):
                levels_Lqv = self.model.score(query, block.videos).levels.cpu().numpy()
                parts.append(np.concatenate([levels_Lqv, block.words.scores([text])]))
        levels_LQV = np.where(
            valid_LV[:, None], np.concatenate(parts, axis=2), np.float32(MISSING_SCORE)
        )
        rule = LATE_RULES[self.model.late_rule]
        fused_QV = rule(levels_LQV, valid_LV, self.model.late.calibration())
        return QueryScores(levels_LQV[:, 0], fused_QV[0].astype(np.float32))

    @torch.no_grad()
    def encoded(self, ids: Sequence[str], device: torch.device) -> list[EncodedVideos]:
        """Encoded videos with all their rows, which the index doesn't keep."""
        return self.model.encode_videos(video_tokens(self.store, ids, device))

    @cached_property
    def _space(self) -> Workspace:
        return Workspace.of(self.config, self.store, [()], self.ids)

    @torch.no_grad()
    def _encoded(self, device: torch.device) -> Iterator["_Block"]:
        """Blocks of the gallery, prepared for queries. Those that fit in `fuse.eval.memory_mb` are
        kept; the others are encoded again for each query."""
        held = sum(block.nbytes for block in self._blocks.values())
        for number, part in enumerate(self._space.videos.parts):
            if number in self._blocks:
                yield self._blocks[number]
                continue
            ids = self.ids[part]
            words = WordBlock.of(self.model.words, self.config, self.store, ids)
            block = _Block(self.model.prepared(self.encoded(ids, device)), words)
            if held + block.nbytes <= self._space.free_bytes:
                self._blocks[number] = block
                held += block.nbytes
            yield block


@dataclass(frozen=True, eq=False)
class _Block:
    """Some videos of the gallery, as the networks and the levels of words need them."""

    videos: list[EncodedVideos]
    words: WordBlock

    @property
    def valid_Lv(self) -> BoolArray:
        valid = [level.valid for level in self._levels]
        return np.concatenate([torch.stack(valid).cpu().numpy(), self.words.valid_LV])

    @property
    def nbytes(self) -> int:
        tokens = [*(v.frames for v in self.videos), *(level.tokens for level in self._levels)]
        tensors: dict[int, Tensor] = {id(t.values): t.values for t in tokens}
        return sum(tensor.nbytes for tensor in tensors.values()) + self.words.nbytes

    @property
    def _levels(self) -> list[LevelTokens]:
        return [level for videos in self.videos for level in videos.levels.values()]


def layout_of(store_root: Path, manifest: Manifest) -> StoreLayout:
    """The layout of the manifest's dataset; raises UsageError, naming the datasets there are."""
    layout = StoreLayout(store_root, manifest.card.name)
    return layout if layout.folder.is_dir() else StoreLayout.open(store_root, layout.dataset)


def sentence_of(query: Query) -> str:
    """The text of a query, which the first row of its features has."""
    for features in query.values():
        if features.texts:
            return features.texts[0]
    raise ValueError("expected the features of a query with its text")
