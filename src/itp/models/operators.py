"""Operators with which no model can be served: their answers would not be the state's alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from itp.errors import ModelError
from itp.models.onnx import Graph, Node

MAX_MODEL_BYTES = 256 * 2**20
"""Of a file, and of any constant that an operator expands."""

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
# The operand that says how large the result is.
_SIZE_OPERAND = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}

Constants = Mapping[str, npt.NDArray[np.float64]]


def check_operators(graph: Graph) -> None:
    """Look at all operators, those of nested graphs included.

    Raises
    ------
    ModelError
        One draws at random, is in training mode, or expands a constant beyond ``MAX_MODEL_BYTES``.
    """
    outer = _constants(graph)
    for part in (graph, *graph.nested):
        constants = {**outer, **_constants(part)}
        for node in part.nodes:
            if node.op in _RANDOM:
                raise ModelError(
                    f"operator {described(node)} draws at random; a model must answer a state the same each "
                    "time: export the network without it"
                )
            if is_training(node, constants):
                raise ModelError(
                    f"operator {described(node)} is in training mode; export the network in evaluation mode "
                    "(in PyTorch: model.eval() before torch.onnx.export)"
                )
            n_values = _expanded(node, constants)
            if n_values * 4 > MAX_MODEL_BYTES:
                raise ModelError(
                    f"operator {described(node)} expands a constant to {n_values:.3g} values; "
                    f"a model has at most {MAX_MODEL_BYTES} bytes"
                )


def is_training(node: Node, constants: Constants) -> bool:
    """Whether an operator computes as in training: BatchNormalization by its batch, Dropout by chance."""
    if node.op == "BatchNormalization":
        return bool(np.any(node.attributes.get("training_mode", 0)))
    if node.op == "Dropout" and len(node.inputs) > 2:
        return bool(np.any(constants.get(node.inputs[2], 0)))
    return False


def described(node: Node) -> str:
    """An operator as messages name it."""
    return f"{node.op} {node.name!r}" if node.name else node.op


def _constants(graph: Graph) -> dict[str, npt.NDArray[np.float64]]:
    """The constants, those that Constant operators hold included."""
    held = dict(graph.constants)
    for node in graph.nodes:
        value = node.attributes.get("value")
        if node.op == "Constant" and node.outputs and isinstance(value, np.ndarray):
            held[node.outputs[0]] = value
    return held


def _expanded(node: Node, constants: Constants) -> int:
    """How many values an operator makes of a constant, as far as the constants tell; or 0."""
    operand = _SIZE_OPERAND.get(node.op, len(node.inputs))
    if operand >= len(node.inputs) or node.inputs[operand] not in constants:
        return 0
    lengths = constants[node.inputs[operand]].ravel()
    return math.prod(int(length) for length in lengths) if np.isfinite(lengths).all() else 0
