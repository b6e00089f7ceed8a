"""The forward pass of a dense chain in NumPy, as an oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def forward(path: Path, state: np.ndarray) -> np.ndarray:
    """Q-values of an ONNX file written by ``itp_overhead.dense_chain``, in float64."""
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    value = state.astype(np.float64)
    n_layers = len(arrays) // 2
    for k in range(n_layers):
        value = value @ arrays[f"w{k}"].T + arrays[f"b{k}"]
        if k < n_layers - 1:
            value = np.maximum(value, 0)
    return value
