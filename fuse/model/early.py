"""Early fusion: frames attend to another modality by cross-attention over time in seconds.

B videos, F frames, K windows of the modality, D joint width, M width of the modality,
E attention width, H heads.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from m2hf.fuse.config import ModelConfig
from m2hf.fuse.model.tokens import Tokens, masked_mean

_PERIODS_S = (1.0, 1024.0)  # shortest and longest period of the time embedding
_DECAY_PER_S = (0.02, 1.0)  # slowest and fastest head at the start: time constants of 50 s and 1 s


class CrossAttention(nn.Module):
    """C = MHA(Q = V, K = V = m~), m~ = LN(W m + b) + PE(time) (design 6; our reading).

    Attention uses times in seconds, never indices: an embedding of window centres in queries and
    keys, and per head a bias that decreases with the distance in time.
    """

    def __init__(self, joint: int, other: int, config: ModelConfig) -> None:
        """joint: D of the frames; other: M of the modality that they attend to."""
        super().__init__()
        self.heads = config.heads
        width = config.width
        self.project = nn.Sequential(nn.Linear(other, width), nn.LayerNorm(width))
        self.query = nn.Sequential(nn.LayerNorm(joint), nn.Linear(joint, width))
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, joint)
        self.dropout = nn.Dropout(config.dropout)
        slow, fast = (math.log(math.expm1(rate)) for rate in _DECAY_PER_S)
        self.decay_H = nn.Parameter(torch.linspace(slow, fast, config.heads))

    def forward(self, frames: Tokens, other: Tokens) -> Tensor:
        """(B, F, D): what each frame attends to in `other`; finite, but meaningless for a video
        that has no rows there."""
        width = self.key.in_features
        m_BKE = self.project(other.values) + time_embedding(other.time_s, width)
        q_BFE = self.query(frames.values) + time_embedding(frames.time_s, width)
        q_BHFd, k_BHKd, v_BHKd = map(self._split, (q_BFE, self.key(m_BKE), self.value(m_BKE)))
        logits_BHFK = q_BHFd @ k_BHKd.transpose(-1, -2) / math.sqrt(q_BHFd.shape[-1])
        logits_BHFK = logits_BHFK + self._bias(frames.time_s, other.time_s)
        # Softmax over an all-masked row is NaN, so an item without rows attends to its padding.
        open_BK = other.mask | ~other.present.unsqueeze(1)
        logits_BHFK = logits_BHFK.masked_fill(~open_BK[:, None, None, :], -math.inf)
        found_BHFd = self.dropout(logits_BHFK.softmax(dim=-1)) @ v_BHKd
        found_BFD: Tensor = self.out(found_BHFd.transpose(1, 2).flatten(2))
        return found_BFD

    def _split(self, x_BNE: Tensor) -> Tensor:
        return x_BNE.view(*x_BNE.shape[:2], self.heads, -1).transpose(1, 2)

    def _bias(self, frames_s_BF: Tensor, other_s_BK: Tensor) -> Tensor:
        distance_BFK = (frames_s_BF.unsqueeze(2) - other_s_BK.unsqueeze(1)).abs()
        rate_H = nn.functional.softplus(self.decay_H)
        return -rate_H[:, None, None] * distance_BFK.unsqueeze(1)


class AppendFusion(nn.Module):
    """The level's tokens are V and LN(C), concatenated."""

    def __init__(self, joint: int, other: int, config: ModelConfig) -> None:
        super().__init__()
        self.attention = CrossAttention(joint, other, config)
        self.norm = nn.LayerNorm(joint)
        # Frames have norm 1 and LN(C) has sqrt(D): unscaled, C would dominate V in the mean.
        nn.init.constant_(self.norm.weight, joint**-0.5)

    def forward(self, frames: Tokens, other: Tokens) -> Tokens:
        """(B, 2F, D) tokens; for a video without `other` LN(C) is masked."""
        found_BFD = self.norm(self.attention(frames, other))
        real_BF = frames.mask & other.present.unsqueeze(1)
        return Tokens(
            values=torch.cat([frames.values, found_BFD], dim=1),
            mask=torch.cat([frames.mask, real_BF], dim=1),
            time_s=torch.cat([frames.time_s, frames.time_s], dim=1),
        )


class AddFusion(nn.Module):
    """The level's tokens are V + C, with C zero at the start and no gate: a scalar gate that
    starts at zero hardly opens (design 6)."""

    def __init__(self, joint: int, other: int, config: ModelConfig) -> None:
        super().__init__()
        self.attention = CrossAttention(joint, other, config)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, frames: Tokens, other: Tokens) -> Tokens:
        """(B, F, D) tokens; for a video without `other` they are V."""
        return _where_present(frames, other, frames.values + self.attention(frames, other))


class ConcatFusion(nn.Module):
    """The plain baseline: each frame concatenated with the pooled modality, projected to D."""

    def __init__(self, joint: int, other: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(other)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(joint + other, joint)

    def forward(self, frames: Tokens, other: Tokens) -> Tokens:
        """(B, F, D) tokens; for a video without `other` they are V."""
        pooled_BM = self.dropout(self.norm(masked_mean(other)))
        beside_BFM = pooled_BM.unsqueeze(1).expand(-1, frames.values.shape[1], -1)
        both_BFD = self.project(torch.cat([frames.values, beside_BFM], dim=-1))
        return _where_present(frames, other, both_BFD)


EARLY_FORMS: dict[str, Callable[[int, int, ModelConfig], nn.Module]] = {
    "append": AppendFusion,
    "add": AddFusion,
    "concat": ConcatFusion,
}


def _where_present(frames: Tokens, other: Tokens, fused_BFD: Tensor) -> Tokens:
    """`fused_BFD`, and the frames themselves for a video without `other`."""
    present_B11 = other.present[:, None, None]
    values = torch.where(present_B11, fused_BFD, frames.values)
    return Tokens(values, frames.mask, frames.time_s)


def time_embedding(time_s_BN: Tensor, width: int) -> Tensor:
    """(B, N, width) sines and cosines of seconds, with logarithmically spaced periods."""
    low, high = (math.log(period) for period in _PERIODS_S)
    period_s = torch.linspace(low, high, width // 2, device=time_s_BN.device).exp()
    angle_BNh = 2 * math.pi * time_s_BN.unsqueeze(-1) / period_s
    return torch.cat([angle_BNh.sin(), angle_BNh.cos()], dim=-1)
