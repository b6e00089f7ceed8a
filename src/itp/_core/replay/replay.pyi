import os
from typing import Any, SupportsIndex, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

@final
class PrioritizedReplayBuffer:
    def __new__(
        cls,
        capacity: SupportsIndex,
        state_dim: SupportsIndex = 20,
        alpha: float = 0.6,
        seed: SupportsIndex = 0,
        *,
        n_actions: SupportsIndex | None = None,
    ) -> Self: ...
    @property
    def capacity(self) -> int: ...
    @property
    def state_dim(self) -> int: ...
    @property
    def alpha(self) -> float: ...
    @property
    def n_actions(self) -> int | None: ...
    @property
    def max_priority(self) -> float: ...
    def __len__(self) -> int: ...
    def get_stored_size(self) -> int: ...
    def add(
        self,
        *,
        state: ArrayLike,
        action: SupportsIndex,
        reward: float,
        next_state: ArrayLike,
        done: bool,
        priority: float | None = None,
    ) -> int: ...
    def add_batch(
        self,
        *,
        state: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        next_state: ArrayLike,
        done: ArrayLike,
        priority: ArrayLike | None = None,
    ) -> NDArray[np.int64]: ...
    def extend(self, records: NDArray[np.void]) -> NDArray[np.int64]:
        """Add records in order: the same as `add_batch` with their fields, without a copy of them.

        Parameters
        ----------
        records : numpy.ndarray, shape (n,)
            Structured, with the fields ``state`` and ``next_state`` (float32[state_dim]), ``action`` (int32),
            ``reward`` (float32) and ``done`` (bool), as in ``itp.experience.record.record_dtype``; others are
            left aside.

        Returns
        -------
        numpy.ndarray of int64, shape (n,)
            The indexes of the transitions.

        Raises
        ------
        TypeError, ValueError
            A field is missing or of another type, or a value is not as in `add`; the buffer is unchanged.
        """
    def sample(
        self,
        batch_size: SupportsIndex,
        beta: float = 0.4,
        out: dict[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]: ...
    def update_priorities(self, indexes: ArrayLike, priorities: ArrayLike) -> int: ...
    def save(self, path: str | os.PathLike[str]) -> None: ...
    def load(self, path: str | os.PathLike[str]) -> None: ...
