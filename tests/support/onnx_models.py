"""ONNX files for tests, written by the package ``onnx``, and their forward pass in NumPy as an oracle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STATE = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 20])
Q_VALUES = helper.make_tensor_value_info("q_values", TensorProto.FLOAT, ["batch", 15])


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


def graph_model(
    nodes: Iterable[onnx.NodeProto],
    constants: Mapping[str, Any],
    *,
    inputs: Iterable[onnx.ValueInfoProto] = (STATE,),
    outputs: Iterable[onnx.ValueInfoProto] = (Q_VALUES,),
    opset: int = 17,
    ir_version: int = 8,
    functions: Iterable[onnx.FunctionProto] = (),
    metadata: str = '{"schema": 1}',
) -> onnx.ModelProto:
    """A model of these operators, from `state` to `q_values`; constants are arrays or tensors."""
    tensors = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
    ]
    functions = list(functions)
    model = helper.make_model(
        helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors),
        opset_imports=[
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(domain, 1) for domain in {f.domain for f in functions}),
        ],
        ir_version=ir_version,
        functions=functions,
    )
    helper.set_model_props(model, {"itp": metadata})
    return model


def graph_file(
    path: Path, nodes: Iterable[onnx.NodeProto], constants: Mapping[str, Any], **options: Any
) -> Path:
    """`graph_model` in a file."""
    path.write_bytes(graph_model(nodes, constants, **options).SerializeToString())
    return path
