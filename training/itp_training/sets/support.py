"""The range of every feature over the decisions that were trained on; training never saw what is outside."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from itp_training.sets.replay import Decisions

Range = tuple[NDArray[np.float32], NDArray[np.float32]]


class Support:
    """Least and greatest value of every feature so far.

    Attributes
    ----------
    ranges : dict
        Of ``streams``, ``context`` and ``candidates``: (float32[f], float32[f]).
    """

    def __init__(self) -> None:
        self.ranges: dict[str, Range] = {}

    def widen(self, decisions: Decisions) -> None:
        """Take in some decisions, without what is padding in them."""
        if not len(decisions):
            return
        there = decisions.members > 0
        up = np.bitwise_or.reduce(decisions.members, axis=1)
        present = (up[:, None] >> np.arange(decisions.n_streams, dtype=np.uint32)) & 1 > 0
        rows = {
            "streams": decisions.streams[present],
            "context": decisions.context,
            "candidates": decisions.candidates[there],
        }
        for name, values in rows.items():
            low, high = values.min(axis=0), values.max(axis=0)
            if name in self.ranges:
                low, high = np.minimum(low, self.ranges[name][0]), np.maximum(high, self.ranges[name][1])
            self.ranges[name] = low, high

    def as_dict(self) -> dict[str, list[list[float]]]:
        """For the model's metadata: least and greatest value of every feature."""
        return {name: np.stack(found, axis=1).astype(float).tolist() for name, found in self.ranges.items()}

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """What a resumed run needs."""
        return {name: [torch.from_numpy(x) for x in found] for name, found in self.ranges.items()}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Go on from what `state_dict` gave."""
        self.ranges = {name: (low.numpy(), high.numpy()) for name, (low, high) in state.items()}
