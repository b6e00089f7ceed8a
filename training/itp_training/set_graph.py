"""A set network as an ONNX graph: plain operators, weights as initializers with the names of ``SetNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from itp import __version__
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES

OPSET = 17
IR_VERSION = 8
"""Both read by every onnxruntime from 1.12 (2022) on."""


def set_graph(arrays: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """The graph of a set network.

    ``streams`` float32[batch, n, 12], ``context`` [batch, 22], ``candidates`` [batch, k, 10] and ``members``
    [batch, k, n], 1 where the candidate has the stream and else 0, give ``values`` [batch, k]. A candidate
    without members is padding: its value means nothing. A stream that is in no candidate is padding too.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        As ``itp._core.setnet.SetNet`` takes them.
    """
    width = arrays["first.weight"].shape[0]
    constants: dict[str, NDArray[Any]] = {
        **{name: np.asarray(array, np.float32) for name, array in arrays.items()},
        "one": np.ones(1, np.float32),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "widths": np.array([width, arrays["member.weight"].shape[0]], np.int64),
    }
    model = helper.make_model(
        helper.make_graph(
            _nodes(),
            "itp",
            [
                _tensor("streams", ["batch", "n", STREAM_FEATURES]),
                _tensor("context", ["batch", CONTEXT_FEATURES]),
                _tensor("candidates", ["batch", "k", CANDIDATE_FEATURES]),
                _tensor("members", ["batch", "k", "n"]),
            ],
            [_tensor("values", ["batch", "k"])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="itp",
        producer_version=__version__,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _nodes() -> list[NodeProto]:
    node = helper.make_node
    return [
        node("Gemm", ["context", "context.weight", "context.bias"], ["ctx"], transB=1),
        node("Split", ["ctx", "widths"], ["ctx_stream", "ctx_candidate"], axis=1),
        node("Unsqueeze", ["ctx_stream", "axis1"], ["of_streams"]),
        node("Unsqueeze", ["ctx_candidate", "axis1"], ["of_candidates"]),
        # Embeddings of the streams.
        *_product("streams", "first", "first_sum"),
        node("Add", ["first_sum", "of_streams"], ["first_in"]),
        node("Relu", ["first_in"], ["f"]),
        *_product("f", "second", "second_sum"),
        node("Add", ["second_sum", "second.bias"], ["second_in"]),
        node("Relu", ["second_in"], ["h"]),
        # Means over all streams and over the members of each candidate.
        node("ReduceMax", ["members"], ["present"], axes=[1], keepdims=1),
        *_mean("present", "h", "pooled"),
        *_product("pooled", "pool", "pool_out"),
        *_product("h", "member", "member_out"),
        *_mean("members", "member_out", "mean"),
        # Values of the candidates.
        *_product("candidates", "own", "own_out"),
        node("Add", ["own_out", "mean"], ["own_and_mean"]),
        node("Add", ["pool_out", "of_candidates"], ["shared"]),
        node("Add", ["own_and_mean", "shared"], ["z_in"]),
        node("Relu", ["z_in"], ["z"]),
        *_product("z", "hidden", "hidden_sum"),
        node("Add", ["hidden_sum", "hidden.bias"], ["hidden_in"]),
        node("Relu", ["hidden_in"], ["d"]),
        node("Concat", ["d", "candidates"], ["last"], axis=2),
        *_product("last", "out", "out_sum"),
        node("Add", ["out_sum", "out.bias"], ["out_value"]),
        node("Squeeze", ["out_value", "axis2"], ["values"]),
    ]


def _product(value: str, layer: str, out: str) -> list[NodeProto]:
    """``out = value @ layer.weight.T``."""
    weight = f"{layer}.weight"
    return [
        helper.make_node("Transpose", [weight], [f"{weight}.T"], perm=[1, 0]),
        helper.make_node("MatMul", [value, f"{weight}.T"], [out]),
    ]


def _mean(weights: str, values: str, out: str) -> list[NodeProto]:
    """Of the rows of `values` that each row of `weights` marks by ones; 0 where none is."""
    return [
        helper.make_node("MatMul", [weights, values], [f"{out}.sum"]),
        helper.make_node("ReduceSum", [weights, "axis2"], [f"{out}.marked"], keepdims=1),
        helper.make_node("Max", [f"{out}.marked", "one"], [f"{out}.count"]),
        helper.make_node("Div", [f"{out}.sum", f"{out}.count"], [out]),
    ]


def _tensor(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
