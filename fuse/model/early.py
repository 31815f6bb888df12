"""Early fusion: frames meet another modality, pooled, by attention, and at their time in seconds.

B videos, F frames, K windows of the modality, D joint width, M width of the modality,
E hidden width, H heads.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from m2hf.fuse.config import ModelConfig
from m2hf.fuse.model.adapters import ColumnDropout
from m2hf.fuse.model.tokens import Tokens, masked_mean

_PERIODS_S = (1.0, 1024.0)  # shortest and longest period of the time embedding
_DECAY_PER_S = (0.02, 1.0)  # slowest and fastest head at the start: time constants of 50 s and 1 s
_NEAR_PER_S = 2.0  # decay of what counts as the time of a frame, at the start: 0.5 s


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
        logits_BHFK = logits_BHFK + self._bias(frames, other)
        logits_BHFK = logits_BHFK.masked_fill(~_open(other)[:, None, None, :], -math.inf)
        found_BHFd = self.dropout(logits_BHFK.softmax(dim=-1)) @ v_BHKd
        found_BFD: Tensor = self.out(found_BHFd.transpose(1, 2).flatten(2))
        return found_BFD

    def _split(self, x_BNE: Tensor) -> Tensor:
        return x_BNE.view(*x_BNE.shape[:2], self.heads, -1).transpose(1, 2)

    def _bias(self, frames: Tokens, other: Tokens) -> Tensor:
        rate_H = nn.functional.softplus(self.decay_H)
        return -rate_H[:, None, None] * _distance_s(frames, other).unsqueeze(1)


class Nearby(nn.Module):
    """a_i = sum_k softmax_k(-rate |t_i - t_k|) LN(W m_k + b): the modality at a frame's time."""

    def __init__(self, other: int, width: int) -> None:
        """other: M of the modality; width: E of what is given."""
        super().__init__()
        self.project = nn.Sequential(nn.Linear(other, width), nn.LayerNorm(width))
        self.decay = nn.Parameter(torch.tensor(math.log(math.expm1(_NEAR_PER_S))))

    def forward(self, frames: Tokens, other: Tokens) -> Tensor:
        """(B, F, E); finite, but meaningless for a video that has no rows in `other`."""
        logits_BFK = -nn.functional.softplus(self.decay) * _distance_s(frames, other)
        logits_BFK = logits_BFK.masked_fill(~_open(other).unsqueeze(1), -math.inf)
        near_BFE: Tensor = logits_BFK.softmax(dim=-1) @ self.project(other.values)
        return near_BFE


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
        self.attention = _closed_attention(joint, other, config)

    def forward(self, frames: Tokens, other: Tokens) -> Tokens:
        """(B, F, D) tokens; for a video without `other` they are V."""
        return _added(frames, other, self.attention(frames, other))


class AlignedFusion(nn.Module):
    """The level's tokens are V_i + C_i + W_d LN(mean_k m_k) + W_2 gelu(W_1 [LN(V_i); a_i] + b_1),
    with a_i of `Nearby`; C, W_d and W_2 are zero at the start
    (W_d over projected frames: ridge regression, `m2hf.fuse.training.start`). Our reading.

    Attention alone starves what is one fact about the whole video, which W_d learns at once. And
    since the score is of the mean over frames, no sum of terms that are linear in a frame or in its
    sound can tell which of them came together in time; the last term is not linear in the two.
    """

    def __init__(self, joint: int, other: int, config: ModelConfig) -> None:
        super().__init__()
        width, dropout = config.width, ColumnDropout(config.dropout)
        self.attention = _closed_attention(joint, other, config)
        self.dropout = dropout
        self.pooled = nn.Sequential(nn.LayerNorm(other), dropout, _zero(other, joint))
        self.nearby = Nearby(other, width)
        self.norm = nn.LayerNorm(joint)
        self.together = nn.Sequential(
            dropout, nn.Linear(joint + width, width), nn.GELU(), dropout, _zero(width, joint)
        )

    @property
    def pooled_parts(self) -> tuple[nn.LayerNorm, nn.Linear]:
        """LN and W_d."""
        norm, _, linear = self.pooled
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(linear, nn.Linear)
        return norm, linear

    def forward(self, frames: Tokens, other: Tokens) -> Tokens:
        """(B, F, D) tokens; for a video without `other` they are V."""
        found_BFD = self.dropout(self.attention(frames, other))
        pooled_B1D = self.pooled(masked_mean(other).unsqueeze(1))
        pair_BFX = torch.cat([self.norm(frames.values), self.nearby(frames, other)], dim=-1)
        return _added(frames, other, found_BFD + pooled_B1D + self.together(pair_BFX))


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
        values = torch.where(other.present[:, None, None], both_BFD, frames.values)
        return Tokens(values, frames.mask, frames.time_s)


EARLY_FORMS: dict[str, Callable[[int, int, ModelConfig], nn.Module]] = {
    "aligned": AlignedFusion,
    "append": AppendFusion,
    "add": AddFusion,
    "concat": ConcatFusion,
}


def _closed_attention(joint: int, other: int, config: ModelConfig) -> CrossAttention:
    """Attention whose frames find nothing, exactly, at the start of training."""
    attention = CrossAttention(joint, other, config)
    nn.init.zeros_(attention.out.weight)
    nn.init.zeros_(attention.out.bias)
    return attention


def _zero(width: int, joint: int) -> nn.Linear:
    """A linear map to nothing, at the start."""
    linear = nn.Linear(width, joint, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def _distance_s(frames: Tokens, other: Tokens) -> Tensor:
    """(B, F, K) seconds between frames and windows."""
    return (frames.time_s.unsqueeze(2) - other.time_s.unsqueeze(1)).abs()


def _open(other: Tokens) -> Tensor:
    """(B, K) what may be attended to: real rows, and all padding of a video that has none, since a
    softmax over an all-masked row is NaN."""
    return other.mask | ~other.present.unsqueeze(1)


def _added(frames: Tokens, other: Tokens, found_BFD: Tensor) -> Tokens:
    """V + `found_BFD`, and V alone, to the bit, for a video without `other`."""
    present_B11 = other.present[:, None, None].to(found_BFD.dtype)
    values = torch.addcmul(frames.values, present_B11, found_BFD)
    return Tokens(values, frames.mask, frames.time_s)


def time_embedding(time_s_BN: Tensor, width: int) -> Tensor:
    """(B, N, width) sines and cosines of seconds, with logarithmically spaced periods."""
    low, high = (math.log(period) for period in _PERIODS_S)
    period_s = torch.linspace(low, high, width // 2, device=time_s_BN.device).exp()
    angle_BNh = 2 * math.pi * time_s_BN.unsqueeze(-1) / period_s
    return torch.cat([angle_BNh.sin(), angle_BNh.cos()], dim=-1)
