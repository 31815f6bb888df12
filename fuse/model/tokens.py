"""Tokens: padded rows with mask and times on a device, the input of every fusion module.

B items, N rows of the longest, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.features.stream import PaddedRows


@dataclass(frozen=True, eq=False)
class Tokens:
    """values (B, N, D); mask (B, N) bool, False for padding; time_s (B, N) seconds.

    An item without any row is missing. Padding has finite, meaningless values.
    """

    values: Tensor
    mask: Tensor
    time_s: Tensor

    @property
    def present(self) -> Tensor:
        """(B,) bool: which items have a row."""
        return self.mask.any(dim=1)

    @classmethod
    def of(cls, rows: PaddedRows, device: torch.device) -> Self:
        """The same rows as tensors on `device`, values in fp32."""
        values, mask, time_s = (torch.from_numpy(array).to(device) for array in rows)
        return cls(values.float(), mask, time_s)

    def widened(self, rows: int) -> Self:
        """The same, padded to `rows` rows, which must be at least the present number."""
        more = rows - self.mask.shape[1]
        values = pad(self.values, (0, 0, 0, more))
        return type(self)(values, pad(self.mask, (0, more)), pad(self.time_s, (0, more)))


def masked_mean(tokens: Tokens) -> Tensor:
    """(B, D) mean over unmasked rows; zeros for an item without any."""
    # A batched product, whose gradient costs half of that of a selection and a sum.
    real_B1N = tokens.mask.to(tokens.values.dtype).unsqueeze(1)
    total_BD = (real_B1N @ tokens.values).squeeze(1)
    return total_BD / real_B1N.sum(dim=2).clamp(min=1)


def video_tokens(
    store: FeatureStore, ids: Sequence[str], device: torch.device
) -> dict[str, Tokens]:
    """Every video stream of `ids`, by role."""
    return {role: Tokens.of(store[role].gather(ids), device) for role in store.video_roles}


def caption_tokens(
    store: FeatureStore, ids: Sequence[str], rows: int | None, device: torch.device
) -> dict[str, Tokens]:
    """The first `rows` rows of the captions `ids` by query role: the sentence, then its tokens."""
    roles = store.query_roles
    return {role: Tokens.of(store[role].gather(ids, first=rows), device) for role in roles}
