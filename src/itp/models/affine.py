"""Affine functions of a layer's values: what the operators between two ReLUs compute, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from itp._core.qnet import MAX_WIDTH

Constant = npt.NDArray[np.float64]


class NotAChain(ValueError):  # noqa: N818 (no failure: onnxruntime serves the graph)
    """The graph is no chain of dense layers; the text says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Affine:
    """matrix @ base + offset[width]; base 0 is the input, base n the output of the n-th ReLU.

    The matrix may have fewer columns than the base has values: a ReLU that joins the layer later appends
    values to it.
    """

    base: int
    linear: Constant | None
    """None: the identity. A product with it would cost time, and BLAS its buffers."""
    offset: Constant

    @property
    def width(self) -> int:
        return len(self.offset)

    @property
    def matrix(self) -> Constant:
        return np.eye(self.width) if self.linear is None else self.linear

    def times(self, weights: Constant) -> Affine:
        """``self @ weights[self.width, width]``."""
        if weights.ndim != 2 or weights.shape[0] != self.width:
            raise NotAChain(f"has weights {list(weights.shape)} for {self.width} inputs")
        check_width(weights.shape[1])
        if self.linear is None and not self.offset.any():
            return Affine(self.base, weights.T, np.zeros(weights.shape[1]))
        return Affine(self.base, weights.T @ self.matrix, self.offset @ weights)

    def scaled(self, factor: Constant) -> Affine:
        """The values times a constant, each broadcast to the other's width."""
        x = self._broadcast(factor)
        row = as_row(factor, x.width)
        return Affine(x.base, x.matrix * row[:, None], x.offset * row)

    def shifted(self, summand: Constant) -> Affine:
        """The values plus a constant, each broadcast to the other's width."""
        x = self._broadcast(summand)
        return Affine(x.base, x.linear, x.offset + as_row(summand, x.width))

    def plus(self, other: Affine) -> Affine:
        """The sum of two functions of the same base; one of a single value is broadcast."""
        if self.base != other.base:
            raise NotAChain("adds values from different depths")
        if self.width != other.width and 1 not in (self.width, other.width):
            raise NotAChain(f"adds {self.width} values to {other.width}")
        n_columns = max(self.matrix.shape[1], other.matrix.shape[1])
        matrix = padded(self.matrix, n_columns) + padded(other.matrix, n_columns)
        return Affine(self.base, matrix, self.offset + other.offset)

    def beside(self, other: Affine) -> Affine:
        """The values of both, one after the other."""
        n_columns = max(self.matrix.shape[1], other.matrix.shape[1])
        matrix = np.concatenate([padded(self.matrix, n_columns), padded(other.matrix, n_columns)])
        return Affine(self.base, matrix, np.concatenate([self.offset, other.offset]))

    def mean(self) -> Affine:
        """The mean of the values, as one value."""
        return Affine(self.base, self.matrix.mean(axis=0, keepdims=True), self.offset.mean(keepdims=True))

    def _broadcast(self, constant: Constant) -> Affine:
        """A single value repeated to a constant's width; other widths stay."""
        if self.width != 1 or constant.size <= 1:
            return self
        width = constant.shape[-1]
        check_width(width)
        return Affine(self.base, np.repeat(self.matrix, width, axis=0), np.repeat(self.offset, width))


def identity(base: int, width: int) -> Affine:
    """The base itself."""
    return Affine(base, None, np.zeros(width))


def padded(matrix: Constant, n_columns: int) -> Constant:
    """The matrix with columns of zeros appended up to `n_columns`."""
    missing = n_columns - matrix.shape[1]
    return np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix


def as_row(constant: Constant, width: int) -> Constant:
    """A constant that is the same for every state, one entry a value."""
    if constant.size not in (1, width) or constant.ndim > 2 or constant.shape[:-1] not in ((), (1,)):
        raise NotAChain(f"has a constant of shape {list(constant.shape)} for {width} values")
    return np.broadcast_to(constant.reshape(-1), (width,))


def check_width(width: int) -> None:
    """NotAChain for a width that the compiled kernel does not take."""
    if not 1 <= width <= MAX_WIDTH:
        raise NotAChain(f"is {width} wide; the compiled kernel takes 1 to {MAX_WIDTH}")
