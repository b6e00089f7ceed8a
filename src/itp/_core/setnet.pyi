from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

KERNELS: tuple[str, ...]
MAX_WIDTH: int
MAX_CANDIDATES: int
LAYERS: tuple[str, ...]
BIASES: tuple[str, ...]

@final
class SetNet:
    def __new__(cls, arrays: Mapping[str, ArrayLike], *, kernel: str | None = None) -> Self: ...
    @property
    def kernel(self) -> str: ...
    def __call__(
        self, streams: ArrayLike, context: ArrayLike, candidates: ArrayLike, members: ArrayLike
    ) -> NDArray[np.float32]: ...
