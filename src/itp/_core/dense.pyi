# The product of two matrices; for Python alone.
import numpy as np
from numpy.typing import NDArray

KERNELS: tuple[str, ...]

def product(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    out: NDArray[np.float32],
    *,
    relu: bool = False,
    gate: NDArray[np.float32] | None = None,
    kernel: int = 0,
) -> None: ...
