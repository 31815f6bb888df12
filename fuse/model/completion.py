"""Completion: what early fusion attends to in a video that lacks the modality.

`fallback`: nothing, and the level is V, exactly; `token`: a learned row [MISS]; `predict`: rows
m^ = G(V), trained by a cosine loss to equal m where m exists. In training the learned forms also
hide the modality of some videos that have it (modality dropout). Our reading, design 6.

B videos, F frames, K windows of the modality, D joint width, M width of the modality.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2hf.fuse.config import CompletionConfig, ModelConfig
from m2hf.fuse.model.scorers import unit
from m2hf.fuse.model.tokens import Tokens, masked_mean


@dataclass(frozen=True, eq=False)
class Completed:
    """The modality with what is missing filled in.

    tokens (B, N, M); present (B,) bool, whether a video has any after completion;
    completion_loss (B,) 1 - cos(m^, m), valid where has_target (B,) is True; both None where
    nothing is predicted.
    """

    tokens: Tokens
    present: Tensor
    completion_loss: Tensor | None = None
    has_target: Tensor | None = None


class Fallback(nn.Module):
    """Leaves missing modalities missing."""

    def __init__(self, joint: int, other: int, model: ModelConfig, config: CompletionConfig):
        super().__init__()

    def forward(self, frames: Tokens, other: Tokens) -> Completed:
        """`other`, unchanged."""
        return Completed(other, other.present)


class MissToken(nn.Module):
    """Replaces a missing modality by one learned row at the mean time of the frames."""

    def __init__(self, joint: int, other: int, model: ModelConfig, config: CompletionConfig):
        super().__init__()
        self.dropout = config.dropout
        self.row_M = nn.Parameter(torch.randn(other) * other**-0.5)

    def forward(self, frames: Tokens, other: Tokens) -> Completed:
        """(B, K + 1, M): the modality's rows, and [MISS] where there are none."""
        kept_B = _kept(other, self.dropout, self.training)
        middle_B1 = masked_mean(Tokens(frames.time_s.unsqueeze(-1), frames.mask, frames.time_s))
        row_B1M = self.row_M.expand(len(kept_B), 1, -1)
        instead = Tokens(row_B1M, frames.present.unsqueeze(1), middle_B1)
        return Completed(_either(kept_B, other, instead), kept_B | frames.present)


class Predict(nn.Module):
    """Replaces a missing modality by m^ = G(V), a row a frame."""

    def __init__(self, joint: int, other: int, model: ModelConfig, config: CompletionConfig):
        super().__init__()
        self.dropout = config.dropout
        self.guess = nn.Sequential(
            nn.LayerNorm(joint), nn.Linear(joint, model.width), nn.GELU(),
            nn.Linear(model.width, other),
        )  # fmt: skip

    def forward(self, frames: Tokens, other: Tokens) -> Completed:
        """(B, K + F, M): the modality's rows, and G(V) where there are none."""
        kept_B = _kept(other, self.dropout, self.training)
        instead = Tokens(self.guess(frames.values), frames.mask, frames.time_s)
        cosine_B = (unit(masked_mean(instead)) * unit(masked_mean(other))).sum(dim=-1)
        return Completed(
            _either(kept_B, other, instead),
            kept_B | frames.present,
            completion_loss=1 - cosine_B,
            has_target=other.present & frames.present,
        )


COMPLETIONS: dict[str, Callable[[int, int, ModelConfig, CompletionConfig], nn.Module]] = {
    "fallback": Fallback,
    "token": MissToken,
    "predict": Predict,
}


def _kept(other: Tokens, dropout: float, training: bool) -> Tensor:
    """(B,) bool: videos whose modality is used: present and, in training, not dropped."""
    if not training or not dropout:
        return other.present
    return other.present & (torch.rand(len(other.mask), device=other.mask.device) >= dropout)


def _either(kept_B: Tensor, other: Tokens, instead: Tokens) -> Tokens:
    """Rows of `other` where kept, of `instead` elsewhere, concatenated under one mask."""
    kept_B1 = kept_B.unsqueeze(1)
    return Tokens(
        torch.cat([other.values, instead.values], dim=1),
        torch.cat([other.mask & kept_B1, instead.mask & ~kept_B1], dim=1),
        torch.cat([other.time_s, instead.time_s], dim=1),
    )
