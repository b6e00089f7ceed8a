import numpy as np
from numpy.typing import NDArray

def look_ahead_loss(
    values: NDArray[np.float32],
    returns: NDArray[np.float32],
    order: NDArray[np.int64],
    weights: NDArray[np.float32],
    delta: float,
    slope: NDArray[np.float32],
    error: NDArray[np.float64],
) -> float: ...
def bootstrap_loss(
    values: NDArray[np.float32],
    action: NDArray[np.int64],
    order: NDArray[np.int64],
    target: NDArray[np.float32],
    weights: NDArray[np.float32],
    delta: float,
    factor: float,
    slope: NDArray[np.float32],
    error: NDArray[np.float64],
) -> float: ...
def take_columns(values: NDArray[np.float32], order: NDArray[np.int64], out: NDArray[np.float32]) -> None: ...
