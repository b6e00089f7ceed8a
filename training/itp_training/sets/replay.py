"""The decisions that a set network learns from: those of the last rounds, apart by number of streams."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions with what every candidate returned; no candidate is padding: 0, and NaN in `returns`.

    Attributes
    ----------
    streams, context, candidates : ndarray
        float32[d, n, .], [d, .] and [d, k, .]: a set network's inputs.
    members : ndarray
        uint32[d, k]: bit masks over the streams that are up.
    returns : ndarray
        float32[d, k]: minus the cost, its mean over the candidates being 0.
    """

    streams: NDArray[np.float32]
    context: NDArray[np.float32]
    candidates: NDArray[np.float32]
    members: NDArray[np.uint32]
    returns: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.returns)

    @property
    def n_streams(self) -> int:
        """Of each decision, those that are down included."""
        return int(self.streams.shape[1])

    def take(self, which: NDArray[np.int64]) -> Decisions:
        """Some of them."""
        return Decisions(*(getattr(self, field.name)[which] for field in fields(self)))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Streams, context, candidates, members float32[d, k, n] and returns, for PyTorch."""
        bits = np.arange(self.n_streams, dtype=np.uint32)
        members = ((self.members[:, :, None] >> bits) & np.uint32(1)).astype(np.float32)
        arrays = (self.streams, self.context, self.candidates, members, self.returns)
        return tuple(map(torch.from_numpy, arrays))

    @staticmethod
    def joined(parts: list[Decisions]) -> Decisions:
        """All of some parts with the same number of streams."""
        names = [field.name for field in fields(Decisions)]
        return Decisions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Replay:
    """Keeps the decisions of the last `rounds` rounds."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self._kept: dict[int, Decisions] = {}
        self._round_of: dict[int, NDArray[np.int64]] = {}

    def store(self, number: int, decisions: Decisions) -> None:
        """Add decisions of a round; those of rounds too long ago go."""
        n = decisions.n_streams
        parts, numbers = [decisions], [np.full(len(decisions), number)]
        if n in self._kept:
            young = np.flatnonzero(self._round_of[n] > number - self.rounds)
            parts.insert(0, self._kept[n].take(young))
            numbers.insert(0, self._round_of[n][young])
        self._kept[n] = Decisions.joined(parts)
        self._round_of[n] = np.concatenate(numbers)

    def of(self, n_streams: int) -> Decisions | None:
        """All that are kept with so many streams, if there are any."""
        found = self._kept.get(n_streams)
        return found if found is not None and len(found) else None

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def state_dict(self) -> dict[int, dict[str, torch.Tensor]]:
        """What a resumed run needs."""
        found = {}
        for n, kept in self._kept.items():
            arrays = {field.name: getattr(kept, field.name) for field in fields(kept)}
            # PyTorch's unsigned integers cannot be stored by every version.
            arrays["members"] = kept.members.view(np.int32)
            found[n] = {
                name: torch.from_numpy(array)
                for name, array in {**arrays, "round": self._round_of[n]}.items()
            }
        return found

    def load_state_dict(self, state: dict[int, dict[str, torch.Tensor]]) -> None:
        """Go on from what `state_dict` gave."""
        for n, tensors in state.items():
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            self._round_of[n] = arrays.pop("round")
            arrays["members"] = arrays["members"].view(np.uint32)
            self._kept[n] = Decisions(**arrays)
