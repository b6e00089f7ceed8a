"""Set models for tests: random weights, files without PyTorch, and a forward pass in NumPy as an oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES
from itp_training.set_graph import set_graph

WIDTHS = (32, 16, 48, 16)


def random_arrays(widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a set network of widths w, h, z and d."""
    rng = np.random.default_rng(seed)
    w, h, z, d = widths
    shapes = {
        "context": (w + z, CONTEXT_FEATURES),
        "first": (w, STREAM_FEATURES),
        "second": (h, w),
        "pool": (z, h),
        "member": (z, h),
        "own": (z, CANDIDATE_FEATURES),
        "hidden": (d, z),
        "out": (1, d + CANDIDATE_FEATURES),
    }
    arrays = {
        f"{name}.weight": (rng.standard_normal(shape) * np.sqrt(2 / shape[1])).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name in ("context", "second", "hidden", "out"):
        arrays[f"{name}.bias"] = rng.standard_normal(shapes[name][0]).astype(np.float32)
    return arrays


def forward(
    arrays: dict[str, np.ndarray],
    streams: np.ndarray,
    context: np.ndarray,
    candidates: np.ndarray,
    members: np.ndarray,
) -> np.ndarray:
    """Values [b, k] in float64; `members` are bit masks over the streams."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}
    width = len(a["first.weight"])
    ctx = context @ a["context.weight"].T + a["context.bias"]
    f = np.maximum(streams @ a["first.weight"].T + ctx[:, None, :width], 0)
    h = np.maximum(f @ a["second.weight"].T + a["second.bias"], 0)
    marked = (members[:, :, None] >> np.arange(streams.shape[1], dtype=np.uint32)) & 1
    mean = marked @ (h @ a["member.weight"].T) / marked.sum(axis=2, keepdims=True)
    shared = h.mean(axis=1) @ a["pool.weight"].T + ctx[:, width:]
    z = np.maximum(candidates @ a["own.weight"].T + mean + shared[:, None], 0)
    d = np.maximum(z @ a["hidden.weight"].T + a["hidden.bias"], 0)
    out = np.concatenate([d, candidates], axis=2) @ a["out.weight"].T + a["out.bias"]
    return np.asarray(out[:, :, 0])


def set_model(arrays: dict[str, np.ndarray] | None = None, metadata: Any = None) -> onnx.ModelProto:
    """A set model with its metadata inside; with ``metadata=False`` without any."""
    model = set_graph(random_arrays() if arrays is None else arrays)
    if metadata is not False:
        helper.set_model_props(model, {"itp": json.dumps({"schema": 2, **(metadata or {})})})
    return model


def set_file(path: Path, arrays: dict[str, np.ndarray] | None = None, metadata: Any = None) -> Path:
    """`set_model` in a file."""
    path.write_bytes(set_model(arrays, metadata).SerializeToString())
    return path
