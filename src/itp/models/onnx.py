"""What an ONNX file holds, as far as a chain of dense layers needs it, read without the package ``onnx``.

The file comes from outside: every length is checked against the bytes that are there before anything is
made of it. Fields and their numbers are those of onnx.proto3 (https://github.com/onnx/onnx, IR version 10);
the encoding is Protocol Buffers' (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from itp.errors import ModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# TensorProto.DataType, of what weights, axes and shapes are made.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
    11: np.dtype("<f8"),
}
_EXTERNAL = 1
_MAX_NODES = 10_000

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
    """Operators in the order of the file, the constants, and the names at the ends."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_graph(content: bytes) -> Graph:
    """The graph of a model file.

    Raises
    ------
    ModelError
        The bytes are no ONNX model, are truncated, or claim more than they hold.
    """
    try:
        graph = Graph()
        # Views of it: a copy of a large model would keep the GIL for long.
        for number, value in _fields(memoryview(content)):
            if number == 7:
                _read_graph(_as_bytes(value), graph)
    except (_WireError, UnicodeDecodeError, struct.error) as error:
        raise ModelError(f"not a valid ONNX model: {error}") from None
    return graph


def _read_graph(content: memoryview, graph: Graph) -> None:
    for number, value in _fields(content):
        if number == 1:
            graph.nodes.append(_node(_as_bytes(value)))
            if len(graph.nodes) > _MAX_NODES:
                raise _WireError(f"more than {_MAX_NODES} operators")
        elif number == 5:
            name, array = _tensor(_as_bytes(value))
            if array is not None:
                graph.constants[name] = array
        elif number == 11:
            graph.inputs.append(_name(_as_bytes(value)))
        elif number == 12:
            graph.outputs.append(_name(_as_bytes(value)))


def _name(content: memoryview) -> str:
    return next((_text(value) for number, value in _fields(content) if number == 1), "")


def _node(content: memoryview) -> Node:
    inputs, outputs, attributes = [], [], {}
    op = name = ""
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
            key, attribute = _attribute(_as_bytes(value))
            if attribute is not None:
                attributes[key] = attribute
        elif number == 7 and _text(value) not in ("", "ai.onnx"):
            op = f"{_text(value)}.{op}"
    return Node(op, name, tuple(inputs), tuple(outputs), attributes)


def _attribute(content: memoryview) -> tuple[str, Attribute | None]:
    """A number, integers, or a tensor, as which several numbers count; None for what no dense layer has."""
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
        elif number == 7:
            numbers.append(_as_bytes(value))
        elif number == 8:
            integers += [_signed(item) for item in _varints(value)]
    if numbers:
        found = _values(numbers, _DTYPES[1], name)
    return name, tuple(integers) if integers else found


def _tensor(content: memoryview) -> tuple[str, npt.NDArray[np.float64] | None]:
    """Name and values, None of a type no weight has; what it claims and what it holds must agree."""
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
    if kind not in _DTYPES:
        return name, None
    dtype = _DTYPES[kind]
    claimed = 1
    for length in shape:
        if length < 0:
            raise _WireError(f"tensor {name!r} has a dimension of {length}")
        claimed *= length
    array = np.array(items, np.float64) if items else _values(held, dtype, name)
    if len(array) != claimed:
        raise _WireError(f"tensor {name!r} claims {claimed} values and holds {len(array)}")
    return name, array.reshape(shape)


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
