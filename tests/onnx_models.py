"""ONNX files for tests: the 20-128-128-64-15 network with random weights, and broken relatives."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS = (20, 128, 128, 64, 15)


def dense_chain(
    path: Path,
    *,
    layers: tuple[int, ...] = LAYERS,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    input_name: str = "state",
    output_name: str = "q_values",
    bias: float | None = None,
) -> Path:
    """Write a chain of dense layers with ReLU between them; `bias` replaces the last layer's biases."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    value = input_name
    for k, (inputs, outputs) in enumerate(pairwise(layers)):
        last = k == len(layers) - 2
        w = (rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)
        b = np.zeros(outputs, np.float32) if bias is None or not last else np.full(outputs, bias, np.float32)
        weights += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        result = output_name if last else f"h{k}"
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], [result], transB=1))
        value = result
        if not last:
            nodes.append(helper.make_node("Relu", [value], [f"r{k}"]))
            value = f"r{k}"
    graph = helper.make_graph(
        nodes,
        "dqn",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", layers[0]])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["batch", layers[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"itp": json.dumps(metadata)})
    onnx.save(model, str(path))
    return path


def forward(path: Path, state: np.ndarray) -> np.ndarray:
    """The same network in NumPy."""
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    value = state.astype(np.float64)
    n_layers = len(arrays) // 2
    for k in range(n_layers):
        value = value @ arrays[f"w{k}"].T + arrays[f"b{k}"]
        if k < n_layers - 1:
            value = np.maximum(value, 0)
    return value
