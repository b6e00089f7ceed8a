"""Networks for measurements and tests: a random one as an ONNX file, and a model's counterpart in PyTorch."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.decider import STATE_DIM
from itp._util.messages import brief
from itp.models.chain import Layer, dense_layers
from itp.models.load import Model
from itp.models.onnx import read_graph

REFERENCE_LAYERS = (20, 128, 128, 64, 15)


def dense_chain(
    path: str | os.PathLike[str],
    *,
    layers: tuple[int, ...] = REFERENCE_LAYERS,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    input_name: str = "state",
    output_name: str = "q_values",
    bias: float = 0.0,
) -> Path:
    """Write an ONNX file of dense layers with ReLU between them and random weights (He et al., 2015).

    Parameters
    ----------
    metadata : dict, optional
        Stored inside the file as JSON, under the key "itp".
    bias : float
        Bias of every unit of the last layer.

    Raises
    ------
    ModuleNotFoundError
        The package ``onnx`` is not installed.
    """
    from onnx import TensorProto, helper, numpy_helper, save_model

    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    value = input_name
    for k, (inputs, outputs) in enumerate(pairwise(layers)):
        last = k == len(layers) - 2
        w = (rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)
        b = np.full(outputs, bias if last else 0.0, np.float32)
        weights += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        result = output_name if last else f"h{k}"
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], [result], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"r{k}"]))
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
    save_model(model, os.fspath(path))
    return Path(path)


def layers_of(model: Model) -> list[Layer]:
    """A model's dense layers; random ones of the reference shape if it is not a chain of dense layers."""
    if model.net is not None:
        return dense_layers(read_graph(model.path.read_bytes()), STATE_DIM)
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((outputs, inputs), np.float32), np.zeros(outputs, np.float32))
        for inputs, outputs in pairwise(REFERENCE_LAYERS)
    ]


def why_no_torch() -> str | None:
    """Why PyTorch cannot be called here; None if it can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    try:
        import torch  # noqa: F401
    except Exception as error:  # such as a library that is missing, or made for another processor
        return f"torch is installed, but fails: {brief(error)}"
    return None


def torch_forward(layers: list[Layer], states: NDArray[np.float32]) -> Callable[[], Any]:
    """A call of the eager forward pass of these states in PyTorch."""
    import torch

    modules: list[torch.nn.Module] = []
    for weights, bias in layers:
        dense = torch.nn.Linear(weights.shape[1], weights.shape[0])
        dense.weight.data, dense.bias.data = torch.from_numpy(weights), torch.from_numpy(bias)
        modules += [dense, torch.nn.ReLU()]
    network = torch.nn.Sequential(*modules[:-1]).eval().requires_grad_(False)
    batch = torch.from_numpy(states)
    return lambda: network(batch)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let PyTorch compute in the calling thread alone, as onnxruntime does here."""
    if why_no_torch() is not None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
