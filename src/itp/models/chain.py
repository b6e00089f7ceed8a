"""Weights of a graph that is a chain of dense layers with ReLU between them.

Every value of the graph is followed as an affine function of the input or of the last ReLU's output:
Gemm, MatMul, Add, Sub, Mul, Div, BatchNormalization and ReduceMean turn one into another until the next ReLU
closes the layer. Duelling heads, V + A - mean(A), are one such function; hidden layers of their own, at the
same depth, are joined side by side in one layer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from itp._core.qnet import MAX_LAYERS
from itp.models.affine import Affine, Constant, NotAChain, as_row, check_width, identity, padded
from itp.models.onnx import Graph, Node
from itp.models.operators import described, is_training

_MAX_ENTRIES = 2**26
"""Of all matrices on the way to the layers together: half a gigabyte."""

Layer = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def dense_layers(graph: Graph, n_inputs: int) -> list[Layer]:
    """Weights float32[outputs, inputs] and biases float32[outputs], layer by layer.

    Raises
    ------
    NotAChain
        The graph is no such chain, or it is too deep or too wide for the compiled kernel.
    """
    # Weights may be listed among the inputs, with their defaults among the constants.
    inputs = [name for name in graph.inputs if name not in graph.constants]
    if len(inputs) != 1 or len(graph.outputs) != 1:
        raise NotAChain(f"{len(inputs)} inputs and {len(graph.outputs)} outputs")
    chain = _Chain(graph.constants, inputs[0], n_inputs)
    with np.errstate(all="ignore"):  # weights that are not finite in the end are refused there
        for node in graph.nodes:
            chain.follow(node)
        return chain.layers_to(graph.outputs[0])


class _Chain:
    def __init__(self, constants: dict[str, Constant], input_name: str, n_inputs: int) -> None:
        self.constants = dict(constants)
        self.n_inputs = n_inputs
        self.layers: list[Affine] = []
        self.values = {input_name: identity(0, n_inputs)}
        self.failures: dict[str, NotAChain] = {}
        """By the name of the value: a failure matters only where the output depends on the value."""
        self.entries_left = _MAX_ENTRIES

    def follow(self, node: Node) -> None:
        """Compute an operator's output, or note why that is impossible."""
        for name in node.outputs[1:]:
            self.failures[name] = NotAChain(f"output {name!r} of operator {described(node)}")
        out = node.outputs[0] if node.outputs else ""
        try:
            if node.op == "Constant":
                self.constants[out] = _held(node)
            elif node.op in _OF_CONSTANTS and node.inputs and node.inputs[0] in self.constants:
                self.constants[out] = _OF_CONSTANTS[node.op](self.constants[node.inputs[0]], node)
            elif node.op not in _OF_VALUES:
                self.failures[out] = NotAChain(f"operator {described(node)}")
            elif failed := [name for name in node.inputs if name in self.failures]:
                self.failures[out] = self.failures[failed[0]]
            else:
                self.values[out] = _OF_VALUES[node.op](self, node)
        except NotAChain as why:
            self.failures[out] = NotAChain(f"operator {described(node)} {why}")
        value = self.values.get(out)
        if value is not None and value.linear is not None:
            self.entries_left -= value.linear.size
        if self.entries_left < 0:
            raise NotAChain(f"{len(self.values)} products of weights, too large to follow")

    def layers_to(self, output: str) -> list[Layer]:
        """The layers, the last of which gives the output."""
        if output in self.failures:
            raise self.failures[output]
        last = self.values.get(output)
        if last is None:
            raise NotAChain(f"the output {output!r} does not depend on the input")
        layers = [*self.layers[: last.base], last]
        if len(layers) > MAX_LAYERS:
            raise NotAChain(f"{len(layers)} layers; the compiled kernel takes at most {MAX_LAYERS}")
        dense, n_inputs = [], self.n_inputs
        for layer in layers:
            matrix = padded(layer.matrix, n_inputs)
            dense.append((matrix.astype(np.float32), layer.offset.astype(np.float32)))
            n_inputs = layer.width
        return dense

    # --- operands ---

    def operand(self, node: Node, k: int) -> Affine | Constant:
        name = node.inputs[k] if k < len(node.inputs) else ""
        if name in self.values:
            return self.values[name]
        if name not in self.constants:
            raise NotAChain(f"has the unknown input {name!r}")
        return self.constants[name]

    def affine(self, node: Node, k: int = 0) -> Affine:
        found = self.operand(node, k)
        if not isinstance(found, Affine):
            raise NotAChain(f"has an input {node.inputs[k]!r} that is a constant")
        return found

    def constant(self, node: Node, k: int) -> Constant:
        found = self.operand(node, k)
        if isinstance(found, Affine):
            raise NotAChain(f"has an input {node.inputs[k]!r} that is computed")
        return found

    # --- operators ---

    def _relu(self, node: Node) -> Affine:
        x = self.affine(node)
        if x.base == len(self.layers):
            self.layers.append(x)
            return identity(len(self.layers), x.width)
        before = self.layers[x.base]
        joined = before.beside(x)
        check_width(joined.width)
        self.layers[x.base] = joined
        selection = np.eye(x.width, joined.width, k=before.width)
        return Affine(x.base + 1, selection, np.zeros(x.width))

    def _same(self, node: Node) -> Affine:
        if len(node.inputs) > 2 and node.inputs[2]:
            self.constant(node, 2)
        if is_training(node, self.constants):
            raise NotAChain("is in training mode")
        return self.affine(node)

    def _flatten(self, node: Node) -> Affine:
        if node.attributes.get("axis", 1) != 1:
            raise NotAChain("changes the shape")
        return self.affine(node)

    def _gemm(self, node: Node) -> Affine:
        x, weights = self.affine(node), self.constant(node, 1)
        if _number(node, "transA", 0.0):
            raise NotAChain("transposes its input")
        if _number(node, "transB", 0.0):
            weights = weights.T
        product = x.times(weights * _number(node, "alpha", 1.0))
        if len(node.inputs) < 3 or not node.inputs[2]:
            return product
        return product.shifted(self.constant(node, 2) * _number(node, "beta", 1.0))

    def _matmul(self, node: Node) -> Affine:
        return self.affine(node).times(self.constant(node, 1))

    def _add(self, node: Node, sign: float = 1.0) -> Affine:
        a, b = self.operand(node, 0), self.operand(node, 1)
        if isinstance(b, Affine):
            b = b if sign == 1.0 else b.scaled(np.array(sign))
            return a.plus(b) if isinstance(a, Affine) else b.shifted(a)
        if isinstance(a, Affine):
            return a.shifted(sign * b)
        raise NotAChain("adds constants")

    def _sub(self, node: Node) -> Affine:
        return self._add(node, -1.0)

    def _mul(self, node: Node) -> Affine:
        x, factor = self.operand(node, 0), self.operand(node, 1)
        if not isinstance(x, Affine):
            x, factor = factor, x
        if not isinstance(x, Affine) or isinstance(factor, Affine):
            raise NotAChain("multiplies what it computes")
        return x.scaled(factor)

    def _div(self, node: Node) -> Affine:
        return self.affine(node).scaled(1.0 / self.constant(node, 1))

    def _batch_norm(self, node: Node) -> Affine:
        x = self.affine(node)
        if is_training(node, self.constants):
            raise NotAChain("is in training mode")
        scale, bias, mean, variance = (as_row(self.constant(node, k), x.width) for k in range(1, 5))
        factor = scale / np.sqrt(variance + _number(node, "epsilon", 1e-5))
        return x.scaled(factor).shifted(bias - mean * factor)

    def _mean(self, node: Node) -> Affine:
        x = self.affine(node)
        axes = node.attributes.get("axes")
        if len(node.inputs) > 1 and node.inputs[1]:
            axes = tuple(self.constant(node, 1).ravel().astype(int).tolist())
        if axes not in ((1,), (-1,)) or not _number(node, "keepdims", 1.0):
            raise NotAChain(f"takes the mean over {axes}, not of each state's values")
        return x.mean()


_OF_VALUES = {
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
    raise NotAChain("holds no numbers")


def _itself(constant: Constant, _: Node) -> Constant:
    return constant


def _transposed(constant: Constant, node: Node) -> Constant:
    order = node.attributes.get("perm", tuple(reversed(range(constant.ndim))))
    if not isinstance(order, tuple) or sorted(order) != list(range(constant.ndim)):
        raise NotAChain(f"has the order {order} for {constant.ndim} dimensions")
    return np.transpose(constant, order)


# Exporters apply these to weights; several equal weights share one tensor.
_OF_CONSTANTS = {"Identity": _itself, "Transpose": _transposed}


def _number(node: Node, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    if not isinstance(value, (int, float)):
        raise NotAChain(f"has an attribute {name} that is no number")
    return float(value)
