from typing import Any

from numpy.typing import DTypeLike, NDArray

__pyx_capi__: dict[str, object]

def as_array(
    name: str, value: object, kind: str, dtype: DTypeLike, shape: tuple[int | None, ...]
) -> NDArray[Any]: ...
def batch_arrays(out: dict[str, NDArray[Any]] | None, n: int, state_dim: int) -> dict[str, NDArray[Any]]: ...
