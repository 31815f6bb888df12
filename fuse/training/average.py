"""The mean of a network's weights over the steps of a stage: what is validated and kept.

After n steps a new one has the weight 1 / (n share + 1), so the mean is over about the last `share`
of the steps, however many there are (polynomial-decay averaging, Shamir & Zhang, 2013). The last
weights follow the last batches; their mean is nearer to the optimum, above all where training data
are few.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from m2hf.fuse.model.retriever import M2HF


class WeightAverage(AveragedModel):
    """The mean network of one in training. The first update copies it, each further one adds a
    step; buffers are always copied."""

    def __init__(self, network: M2HF, share: float) -> None:
        """share: of the steps so far, 0 to 1; by 0 the mean is the network itself."""
        super().__init__(network, multi_avg_fn=self._mix)
        self.share = share

    @property
    def network(self) -> M2HF:
        """The mean network."""
        assert isinstance(self.module, M2HF)
        return self.module

    @torch.no_grad()
    def _mix(
        self, means: Iterable[Tensor], weights: Iterable[Tensor], updates: Tensor | int
    ) -> None:
        fresh = 1 / (float(updates) * self.share + 1)
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight, fresh)
