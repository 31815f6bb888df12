"""T2V R@1 of runs by kind of caption and by level, as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.kinds import QueryKinds

ALL, FUSED = "all", "fused"

Recalls = dict[str, dict[str, dict[str, list[float]]]]


def recalls(files: Mapping[str, Sequence[Path]], kinds: QueryKinds) -> Recalls:
    """By run, kind (and "all") and level ("fused": late fusion): R@1 in percent, a number per
    similarity file of the run."""
    table: Recalls = {}
    for run, paths in files.items():
        rows = table.setdefault(run, {})
        for file in map(SimilarityFile.read, paths):
            masks = dict(kinds.masks(file.query_ids))
            for level, scores_QV in file.scores.items():
                ranks = t2v_ranks(scores_QV, file.video_of_query)
                of_kind = {kind: ranks.of_queries(mask) for kind, mask in masks.items()}
                name = FUSED if level == LATE_FUSION else level
                for kind, own in {**of_kind, ALL: ranks}.items():
                    rows.setdefault(kind, {}).setdefault(name, []).append(own.recall(1).expected)
    return table
