"""Whether a graph is a chain of dense layers with ReLU between them, and its weights if it is.

Every value of the graph is followed as an affine function of what the last ReLU gave (or of the input):
Gemm, MatMul, Add, Sub, Mul, Div, BatchNormalization and ReduceMean make one of another, in float64, until
the next ReLU closes the layer. Duelling heads, V + A - mean(A), are one such function; where each has hidden
layers of its own, those of the same depth stand side by side in one layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from itp._core.qnet import MAX_LAYERS, MAX_WIDTH
from itp.models.onnx import Graph, Node

_MAX_ENTRIES = 2**26
"""Of all matrices together on the way to the layers: half a gigabyte."""

Layer = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
Constant = npt.NDArray[np.float64]


class NotAChain(ValueError):  # noqa: N818 (no failure: onnxruntime serves the graph)
    """The graph computes something else; the text says what."""


@dataclass(frozen=True, slots=True)
class _Affine:
    """matrix @ base + offset[width]; base 0 is the input, n the n-th layer's ReLU's output.

    The matrix may have fewer columns than that has values: a layer that joins it later adds some at its end.
    """

    base: int
    linear: Constant | None
    """None: the identity, which would cost a product with it in BLAS, and BLAS its buffers."""
    offset: Constant

    @property
    def width(self) -> int:
        return len(self.offset)

    @property
    def matrix(self) -> Constant:
        return np.eye(self.width) if self.linear is None else self.linear


def dense_layers(graph: Graph, width: int) -> list[Layer]:
    """Weights float32[outputs, inputs] and biases float32[outputs], layer by layer from `width` inputs on.

    Raises
    ------
    NotAChain
        The graph is none, or it is too deep or too wide for the compiled kernel.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        # Weights may stand among the inputs, with their defaults among the constants.
        inputs = [name for name in graph.inputs if name not in graph.constants]
        if len(inputs) != 1 or len(graph.outputs) != 1:
            raise NotAChain(f"{len(inputs)} inputs and {len(graph.outputs)} outputs")
    chain = _Chain(graph, width)
    with np.errstate(all="ignore"):  # what is not finite in the end is refused there
        for node in graph.nodes:
            chain.take(node)
        return chain.close(graph.outputs[0])


class _Chain:
    def __init__(self, graph: Graph, width: int) -> None:
        self.constants = dict(graph.constants)
        self.layers: list[_Affine] = []
        self.width = width
        self.room = _MAX_ENTRIES
        self.failed: dict[str, NotAChain] = {}
        """What is none, by name: it matters where something that is needed comes of it."""
        (name,) = [name for name in graph.inputs if name not in graph.constants]
        self.values = {name: _identity(0, width)}

    def take(self, node: Node) -> None:
        """Follow one operator, or note why it cannot be followed."""
        for name in node.outputs[1:]:
            self.failed[name] = NotAChain(f"output {name!r} of operator {_told(node)}")
        out = node.outputs[0] if node.outputs else ""
        try:
            if node.op == "Constant":
                self.constants[out] = _held(node)
            elif node.op in _OF_CONSTANTS and node.inputs and node.inputs[0] in self.constants:
                self.constants[out] = _OF_CONSTANTS[node.op](self.constants[node.inputs[0]], node)
            elif node.op in _RULES:
                self.values[out] = _RULES[node.op](self, node)
            else:
                raise NotAChain(f"operator {_told(node)}")
        except NotAChain as why:
            self.failed[out] = why
            return
        value = self.values.get(out)
        if value is not None and value.linear is not None:
            self.room -= value.linear.size
        if self.room < 0:
            raise NotAChain(f"{len(self.values)} products of weights, too large to follow")

    def close(self, output: str) -> list[Layer]:
        """The layers, the last of which gives the output."""
        if output in self.failed:
            raise self.failed[output]
        last = self.values.get(output)
        if last is None:
            raise NotAChain(f"the output {output!r} does not depend on the input")
        layers = [*self.layers[: last.base], last]
        if len(layers) > MAX_LAYERS:
            raise NotAChain(f"{len(layers)} layers; the compiled kernel takes at most {MAX_LAYERS}")
        closed, inputs = [], self.width
        for layer in layers:
            matrix = _columns(layer.matrix, inputs)
            closed.append((matrix.astype(np.float32), layer.offset.astype(np.float32)))
            inputs = layer.width
        return closed

    # --- operands ---

    def operand(self, node: Node, k: int) -> _Affine | Constant:
        name = node.inputs[k] if k < len(node.inputs) else ""
        if name in self.failed:
            raise self.failed[name]
        if name in self.values:
            return self.values[name]
        if name not in self.constants:
            raise NotAChain(f"input {name!r} of operator {_told(node)} is not known")
        return self.constants[name]

    def affine(self, node: Node, k: int = 0) -> _Affine:
        found = self.operand(node, k)
        if not isinstance(found, _Affine):
            raise NotAChain(f"input {node.inputs[k]!r} of operator {_told(node)} is a constant")
        return found

    def constant(self, node: Node, k: int) -> Constant:
        found = self.operand(node, k)
        if isinstance(found, _Affine):
            raise NotAChain(f"input {node.inputs[k]!r} of operator {_told(node)} is computed")
        return found

    # --- operators ---

    def _relu(self, node: Node) -> _Affine:
        x = self.affine(node)
        if x.base == len(self.layers):
            self.layers.append(x)
            return _identity(len(self.layers), x.width)
        beside = self.layers[x.base]
        if beside.width + x.width > MAX_WIDTH:
            raise _too_wide(node, beside.width + x.width)
        self.layers[x.base] = _joined(beside, x)
        mine = np.eye(x.width, beside.width + x.width, k=beside.width)
        return _Affine(x.base + 1, mine, np.zeros(x.width))

    def _same(self, node: Node) -> _Affine:
        if len(node.inputs) > 2 and node.inputs[2] and self.constant(node, 2).any():
            raise NotAChain(f"operator {_told(node)} drops values: exported in training mode")
        return self.affine(node)

    def _flatten(self, node: Node) -> _Affine:
        if node.attributes.get("axis", 1) != 1:
            raise NotAChain(f"operator {_told(node)} changes the shape")
        return self.affine(node)

    def _gemm(self, node: Node) -> _Affine:
        x, weights = self.affine(node), self.constant(node, 1)
        if node.attributes.get("transA", 0):
            raise NotAChain(f"operator {_told(node)} transposes its input")
        if node.attributes.get("transB", 0):
            weights = weights.T
        product = _times(x, weights * _number(node, "alpha", 1.0), node)
        if len(node.inputs) < 3 or not node.inputs[2]:
            return product
        bias = _row(self.constant(node, 2), product.width, node) * _number(node, "beta", 1.0)
        return _Affine(x.base, product.linear, product.offset + bias)

    def _matmul(self, node: Node) -> _Affine:
        return _times(self.affine(node), self.constant(node, 1), node)

    def _add(self, node: Node, sign: float = 1.0) -> _Affine:
        a, b = self.operand(node, 0), self.operand(node, 1)
        if isinstance(a, _Affine) and isinstance(b, _Affine):
            return _sum(a, b, sign, node)
        if isinstance(a, _Affine) and not isinstance(b, _Affine):
            a = _widened(a, b, node)
            return _Affine(a.base, a.linear, a.offset + sign * _row(b, a.width, node))
        if isinstance(b, _Affine) and not isinstance(a, _Affine):
            b = _widened(b, a, node)
            return _Affine(b.base, sign * b.matrix, sign * b.offset + _row(a, b.width, node))
        raise NotAChain(f"operator {_told(node)} adds constants")

    def _sub(self, node: Node) -> _Affine:
        return self._add(node, -1.0)

    def _mul(self, node: Node) -> _Affine:
        x, factor = self.operand(node, 0), self.operand(node, 1)
        if not isinstance(x, _Affine):
            x, factor = factor, x
        if not isinstance(x, _Affine) or isinstance(factor, _Affine):
            raise NotAChain(f"operator {_told(node)} multiplies what it computes")
        x = _widened(x, factor, node)
        return _scaled(x, _row(factor, x.width, node))

    def _div(self, node: Node) -> _Affine:
        x, divisor = self.affine(node), self.constant(node, 1)
        x = _widened(x, divisor, node)
        return _scaled(x, 1.0 / _row(divisor, x.width, node))

    def _batch_norm(self, node: Node) -> _Affine:
        x = self.affine(node)
        if node.attributes.get("training_mode", 0):
            raise NotAChain(f"operator {_told(node)} was exported in training mode")
        scale, bias, mean, variance = (_row(self.constant(node, k), x.width, node) for k in range(1, 5))
        factor = scale / np.sqrt(variance + _number(node, "epsilon", 1e-5))
        normal = _scaled(x, factor)
        return _Affine(x.base, normal.matrix, normal.offset + bias - mean * factor)

    def _mean(self, node: Node) -> _Affine:
        x = self.affine(node)
        axes = node.attributes.get("axes")
        if len(node.inputs) > 1 and node.inputs[1]:
            axes = tuple(self.constant(node, 1).ravel().astype(int).tolist())
        if axes not in ((1,), (-1,)) or not node.attributes.get("keepdims", 1):
            raise NotAChain(f"operator {_told(node)} takes the mean over {axes}, not of each state's values")
        return _Affine(x.base, x.matrix.mean(axis=0, keepdims=True), x.offset.mean(keepdims=True))


_RULES = {
    "Add": _Chain._add,
    "BatchNormalization": _Chain._batch_norm,
    "Div": _Chain._div,
    "Dropout": _Chain._same,
    "Flatten": _Chain._flatten,
    "Gemm": _Chain._gemm,
    "Identity": _Chain._same,
    "MatMul": _Chain._matmul,
    "Mul": _Chain._mul,
    "ReduceMean": _Chain._mean,
    "Relu": _Chain._relu,
    "Sub": _Chain._sub,
}


def _held(node: Node) -> Constant:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = node.attributes.get(name)
        if value is not None:
            return np.asarray(value, np.float64)
    raise NotAChain(f"operator {_told(node)} holds no numbers")


def _itself(constant: Constant, _: Node) -> Constant:
    return constant


def _transposed(constant: Constant, node: Node) -> Constant:
    order = node.attributes.get("perm", tuple(reversed(range(constant.ndim))))
    if not isinstance(order, tuple) or sorted(order) != list(range(constant.ndim)):
        raise NotAChain(f"operator {_told(node)}: {order} is no order of {constant.ndim} dimensions")
    return np.transpose(constant, order)


# What exporters do to weights; several that are equal share one tensor.
_OF_CONSTANTS = {"Identity": _itself, "Transpose": _transposed}


def _identity(base: int, width: int) -> _Affine:
    return _Affine(base, None, np.zeros(width))


def _times(x: _Affine, weights: Constant, node: Node) -> _Affine:
    """x @ weights[x.width, width]."""
    if weights.ndim != 2 or weights.shape[0] != x.width:
        raise NotAChain(f"operator {_told(node)}: weights {list(weights.shape)} for {x.width} inputs")
    if not 1 <= weights.shape[1] <= MAX_WIDTH:
        raise _too_wide(node, weights.shape[1])
    if x.linear is None and not x.offset.any():
        return _Affine(x.base, weights.T, np.zeros(weights.shape[1]))
    return _Affine(x.base, weights.T @ x.matrix, x.offset @ weights)


def _scaled(x: _Affine, factor: Constant) -> _Affine:
    return _Affine(x.base, x.matrix * factor[:, None], x.offset * factor)


def _sum(a: _Affine, b: _Affine, sign: float, node: Node) -> _Affine:
    if a.base != b.base:
        raise NotAChain(f"operator {_told(node)} adds values from different depths")
    if a.width != b.width and 1 not in (a.width, b.width):
        raise NotAChain(f"operator {_told(node)} adds {a.width} values to {b.width}")
    columns = max(a.matrix.shape[1], b.matrix.shape[1])
    matrix = _columns(a.matrix, columns) + sign * _columns(b.matrix, columns)
    return _Affine(a.base, matrix, a.offset + sign * b.offset)


def _joined(a: _Affine, b: _Affine) -> _Affine:
    """The values of both, one after the other."""
    columns = max(a.matrix.shape[1], b.matrix.shape[1])
    matrix = np.concatenate([_columns(a.matrix, columns), _columns(b.matrix, columns)])
    return _Affine(a.base, matrix, np.concatenate([a.offset, b.offset]))


def _columns(matrix: Constant, count: int) -> Constant:
    """So many columns, zeros beyond those there are."""
    more = count - matrix.shape[1]
    return np.pad(matrix, ((0, 0), (0, more))) if more else matrix


def _widened(x: _Affine, constant: Constant, node: Node) -> _Affine:
    """One value, broadcast over a constant's width."""
    if x.width != 1 or constant.size <= 1:
        return x
    width = constant.shape[-1]
    if width > MAX_WIDTH:
        raise _too_wide(node, width)
    return _Affine(x.base, np.repeat(x.matrix, width, axis=0), np.repeat(x.offset, width))


def _row(constant: Constant, width: int, node: Node) -> Constant:
    """A constant that is the same for every state, one entry per value."""
    if constant.size not in (1, width) or constant.ndim > 2 or constant.shape[:-1] not in ((), (1,)):
        shape = list(constant.shape)
        raise NotAChain(f"operator {_told(node)}: a constant of shape {shape} for {width} values")
    return np.broadcast_to(constant.reshape(-1), (width,))


def _number(node: Node, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    if not isinstance(value, (int, float)):
        raise NotAChain(f"operator {_told(node)}: {name} is no number")
    return float(value)


def _too_wide(node: Node, width: int) -> NotAChain:
    return NotAChain(f"operator {_told(node)} is {width} wide; the compiled kernel takes 1 to {MAX_WIDTH}")


def _told(node: Node) -> str:
    return f"{node.op} {node.name!r}" if node.name else node.op
