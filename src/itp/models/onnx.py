"""Operators and constants of an ONNX file, read without the package ``onnx``.

The file comes from outside: every length is checked against the bytes that are there before anything is
allocated for it. Fields and their numbers are those of onnx.proto3 (https://github.com/onnx/onnx, IR
version 10); the encoding is Protocol Buffers' (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from itp.errors import ModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# TensorProto.DataType of weights, axes and shapes.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
    11: np.dtype("<f8"),
}
_EXTERNAL = 1
_VALUES_PER_BYTE = 4
"""At most, in a tensor of any type: the smallest ones take two bits."""
_MAX_NODES = 10_000
_MAX_DEPTH = 20
"""Of graphs within operators, such as the branches of an If."""

Value = int | memoryview
Attribute = float | int | tuple[int, ...] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Node:
    """An operator of the graph."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(slots=True)
class Graph:
    """Operators in the order of the file, the constants, and the names of inputs and outputs."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nested: list[Graph] = field(default_factory=list)
    """Of the file's own graph alone: all graphs within operators, at any depth, and the functions' bodies."""


def read_graph(content: bytes) -> Graph:
    """The graph of a model file.

    Raises
    ------
    ModelError
        The bytes are no ONNX model, are truncated, or claim more than they hold.
    """
    reader = _Reader()
    graph = Graph()
    try:
        # Views of it: a copy of a large model would keep the GIL for long.
        for number, value in _fields(memoryview(content)):
            if number == 7:
                reader.read_graph(_as_bytes(value), graph)
            elif number == 25:
                reader.read_function(_as_bytes(value))
    except (_WireError, UnicodeDecodeError, struct.error) as error:
        raise ModelError(f"not a valid ONNX model: {error}") from None
    graph.nested = reader.nested
    return graph


class _Reader:
    """Reads graphs and what they are made of; counts operators, and collects graphs within them."""

    def __init__(self) -> None:
        self.nested: list[Graph] = []
        self.n_nodes = 0
        self.depth = 0

    def read_graph(self, content: memoryview, graph: Graph) -> None:
        for number, value in _fields(content):
            if number == 1:
                graph.nodes.append(self.node(_as_bytes(value)))
            elif number == 5:
                name, array = _tensor(_as_bytes(value))
                if array is not None:
                    graph.constants[name] = array
            elif number == 11:
                graph.inputs.append(_name(_as_bytes(value)))
            elif number == 12:
                graph.outputs.append(_name(_as_bytes(value)))
            elif number == 15:
                _check_sparse(_as_bytes(value))

    def read_function(self, content: memoryview) -> None:
        nodes = [self.node(_as_bytes(value)) for number, value in _fields(content) if number == 7]
        self.nested.append(Graph(nodes=nodes))

    def node(self, content: memoryview) -> Node:
        self.n_nodes += 1
        if self.n_nodes > _MAX_NODES:
            raise _WireError(f"more than {_MAX_NODES} operators")
        inputs, outputs, attributes = [], [], {}
        op = name = domain = ""
        for number, value in _fields(content):
            if number == 1:
                inputs.append(_text(value))
            elif number == 2:
                outputs.append(_text(value))
            elif number == 3:
                name = _text(value)
            elif number == 4:
                op = _text(value)
            elif number == 5:
                key, attribute = self.attribute(_as_bytes(value))
                if attribute is not None:
                    attributes[key] = attribute
            elif number == 7:
                domain = _text(value)
        if domain not in ("", "ai.onnx"):
            op = f"{domain}.{op}"
        return Node(op, name, tuple(inputs), tuple(outputs), attributes)

    def attribute(self, content: memoryview) -> tuple[str, Attribute | None]:
        """Name and value: a number, integers, or a tensor (several numbers count as one); else None."""
        name = ""
        found: Attribute | None = None
        integers: list[int] = []
        numbers: list[memoryview] = []
        for number, value in _fields(content):
            if number == 1:
                name = _text(value)
            elif number == 2:
                (found,) = struct.unpack("<f", _as_bytes(value))
            elif number == 3 and isinstance(value, int):
                found = _signed(value)
            elif number == 5:
                found = _tensor(_as_bytes(value))[1]
            elif number in (6, 11):
                self.subgraph(_as_bytes(value))
            elif number == 7:
                numbers.append(_as_bytes(value))
            elif number == 8:
                integers += [_signed(item) for item in _varints(value)]
            elif number == 22:
                _check_sparse(_as_bytes(value))
        if numbers:
            found = _values(numbers, _DTYPES[1], name)
        return name, tuple(integers) if integers else found

    def subgraph(self, content: memoryview) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _WireError(f"graphs within graphs, more than {_MAX_DEPTH} deep")
        graph = Graph()
        self.nested.append(graph)
        self.read_graph(content, graph)
        self.depth -= 1


def _name(content: memoryview) -> str:
    return next((_text(value) for number, value in _fields(content) if number == 1), "")


def _tensor(content: memoryview) -> tuple[str, npt.NDArray[np.float64] | None]:
    """Name and values, None of a type that no weight has; claimed and held lengths must agree."""
    name = ""
    shape: list[int] = []
    kind = 0
    held: list[memoryview] = []
    items: list[int] = []
    external = False
    for number, value in _fields(content):
        if number == 1:
            shape += [_signed(item) for item in _varints(value)]
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number in (4, 10):
            held.append(_as_bytes(value))
        elif number in (5, 7):
            items += [_signed(item) for item in _varints(value)]
        elif number == 8:
            name = _text(value)
        elif number == 9:
            held = [_as_bytes(value)]
        elif number == 14:
            external = value == _EXTERNAL
    if external:
        raise ModelError(f"tensor {name!r} lies in another file; save the model with its weights inside")
    claimed = _size(name, shape)
    if kind not in _DTYPES:
        if claimed > _VALUES_PER_BYTE * len(content):
            raise _WireError(f"tensor {name!r} claims {claimed} values and holds fewer")
        return name, None
    dtype = _DTYPES[kind]
    array = np.array(items, np.float64) if items else _values(held, dtype, name)
    if len(array) != claimed:
        raise _WireError(f"tensor {name!r} claims {claimed} values and holds {len(array)}")
    return name, array.reshape(shape)


def _size(name: str, shape: list[int]) -> int:
    for length in shape:
        if length < 0:
            raise _WireError(f"tensor {name!r} has a dimension of {length}")
    return math.prod(shape)


def _check_sparse(content: memoryview) -> None:
    """ModelError for a sparse tensor: it claims any size, whatever it holds."""
    values = [_as_bytes(value) for number, value in _fields(content) if number == 1]
    name = _tensor(values[0])[0] if values else ""
    raise ModelError(f"tensor {name!r} is sparse; save the model with dense weights")


def _values(pieces: list[memoryview], dtype: np.dtype[Any], name: str) -> npt.NDArray[np.float64]:
    held = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(held) % dtype.itemsize:
        raise _WireError(f"{name!r} holds {len(held)} bytes: no whole number of values")
    with np.errstate(invalid="ignore"):  # a NaN that signals; what is not finite is refused later
        return np.frombuffer(held, dtype).astype(np.float64)


# --- the wire ---


class _WireError(ValueError):
    """The bytes are not what they claim to be."""


def _fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of every field of a message; fixed widths as their bytes."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(content, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise _WireError(f"field {number} has the unknown wire type {wire}")
        if length > len(content) - at:
            raise _WireError(f"field {number} claims {length} bytes; {len(content) - at} are left")
        yield number, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at == len(content):
            raise _WireError("it ends within a number")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise _WireError("a number of more than 64 bits")


def _varints(value: Value) -> list[int]:
    """A repeated integer, packed or single."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        item, at = _varint(value, at)
        found.append(item)
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _as_bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise _WireError("a number stands where bytes are expected")
    return value


def _text(value: Value) -> str:
    return str(_as_bytes(value), "utf-8")
