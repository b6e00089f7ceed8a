"""The set network in PyTorch; ``itp._core.setnet`` serves the same function."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from itp._core.setnet import SetNet
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES


class SetNetwork(nn.Module):
    """Values of candidate sets of streams; the greatest is chosen.

    A stream's features and the context give its embedding; a candidate is the mean embedding of its streams,
    the mean of all, the context and its own features. Neither the order nor the number of streams matters.

    Parameters
    ----------
    widths : sequence of int
        Of a stream's first and second layer, and of a candidate's first and second.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first_width, embedding, candidate, hidden = widths
        self.context = nn.Linear(CONTEXT_FEATURES, self.first_width + candidate)
        self.first = nn.Linear(STREAM_FEATURES, self.first_width, bias=False)
        self.second = nn.Linear(self.first_width, embedding)
        self.pool = nn.Linear(embedding, candidate, bias=False)
        self.member = nn.Linear(embedding, candidate, bias=False)
        self.own = nn.Linear(CANDIDATE_FEATURES, candidate, bias=False)
        self.hidden = nn.Linear(candidate, hidden)
        self.out = nn.Linear(hidden + CANDIDATE_FEATURES, 1)
        # The first updates decide what a value's size is.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, streams: Tensor, context: Tensor, candidates: Tensor, members: Tensor) -> Tensor:
        """Values float32[b, k].

        Parameters
        ----------
        streams, context, candidates : Tensor
            float32[b, n, .], [b, .] and [b, k, .].
        members : Tensor
            float32[b, k, n]: 1 where the candidate has the stream. A candidate without streams is padding,
            and its value means nothing; so is a stream that no candidate has.
        """
        of_context = self.context(context)
        of_streams, of_candidates = of_context[:, : self.first_width], of_context[:, self.first_width :]
        embedded = self.embed(streams, of_streams, members)
        present = members.amax(dim=1, keepdim=True)
        pooled = self.pool(_mean(present, embedded))
        mean = _mean(members, self.member(embedded))
        first = torch.relu(self.own(candidates) + mean + pooled + of_candidates[:, None])
        last = torch.cat([torch.relu(self.hidden(first)), candidates], dim=-1)
        values: Tensor = self.out(last)[:, :, 0]
        return values

    def embed(self, streams: Tensor, of_context: Tensor, members: Tensor) -> Tensor:  # noqa: ARG002
        """Embeddings float32[b, n, .] of the streams, each on its own."""
        first = torch.relu(self.first(streams) + of_context[:, None])
        embedded: Tensor = torch.relu(self.second(first))
        return embedded

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name, as ``SetNet`` and the model file take them."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def packed(self) -> SetNet:
        """The same function for the compiled decision."""
        return SetNet(self.arrays())


def _mean(marks: Tensor, values: Tensor) -> Tensor:
    """Mean of the rows of `values` that each row of `marks` has; 0 where it has none."""
    return torch.bmm(marks, values) / marks.sum(dim=2, keepdim=True).clamp(min=1.0)
