from collections.abc import Iterable
from typing import final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

KERNELS: tuple[str, ...]
MAX_LAYERS: int
MAX_WIDTH: int

@final
class QNet:
    def __new__(
        cls, layers: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]], *, kernel: str | None = None
    ) -> Self: ...
    @property
    def kernel(self) -> str: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    def time_ns(self, states: npt.ArrayLike, calls: int, limit_ns: int) -> npt.NDArray[np.int64]: ...
    def __call__(self, states: npt.ArrayLike) -> npt.NDArray[np.float32]: ...
