"""Which ONNX graphs become a compiled forward pass, and what becomes of the rest."""

from __future__ import annotations

import contextlib
import logging
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import itp
from itp._core.qnet import QNet
from itp.models.affine import NotAChain
from itp.models.chain import dense_layers
from itp.models.load import load_model
from itp.models.onnx import read_graph
from itp.models.onnxruntime import runtime
from itp_overhead import dense_chain
from onnx_models import graph_file

pytestmark = pytest.mark.core

ort = runtime()
RNG = np.random.default_rng(7)


def weights(*shape):
    return (RNG.standard_normal(shape) * 0.3).astype(np.float32)


node = helper.make_node

CHAINS = {
    "gemm with alpha and beta": (
        [
            node("Gemm", ["state", "a", "b"], ["h"], alpha=0.5, beta=2.0),
            node("Relu", ["h"], ["r"]),
            node("Gemm", ["r", "c", "d"], ["q_values"], transB=1),
        ],
        {"a": weights(20, 32), "b": weights(32), "c": weights(15, 32), "d": weights(1, 15)},
    ),
    "gemm without bias": ([node("Gemm", ["state", "a"], ["q_values"])], {"a": weights(20, 15)}),
    "matmul and add, both ways": (
        [
            node("MatMul", ["state", "a"], ["m"]),
            node("Add", ["b", "m"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "c"], ["n"]),
            node("Add", ["n", "d"], ["q_values"]),
        ],
        {"a": weights(20, 9), "b": weights(9), "c": weights(9, 15), "d": weights(1, 15)},
    ),
    "batch norm before and behind ReLU, dropout": (
        [
            node("Gemm", ["state", "a", "b"], ["h"], transB=1),
            node("BatchNormalization", ["h", "s", "o", "m", "v"], ["n"], epsilon=1e-3),
            node("Relu", ["n"], ["r"]),
            node("Dropout", ["r"], ["k"]),
            node("BatchNormalization", ["k", "s", "o", "m", "v"], ["n2"]),
            node("Gemm", ["n2", "c", "d"], ["q_values"], transB=1),
        ],
        {
            "a": weights(8, 20),
            "b": weights(8),
            "s": weights(8),
            "o": weights(8),
            "m": weights(8),
            "v": np.abs(weights(8)),
            "c": weights(15, 8),
            "d": weights(15),
        },
    ),
    "the state scaled inside": (
        [
            node("Sub", ["state", "mean"], ["x"]),
            node("Div", ["x", "std"], ["y"]),
            node("Mul", ["two", "y"], ["z"]),
            node("Flatten", ["z"], ["f"]),
            node("Gemm", ["f", "a", "b"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Identity", ["r"], ["i"]),
            node("Gemm", ["i", "c", "d"], ["q_values"]),
        ],
        {
            "mean": weights(20),
            "std": np.abs(weights(1, 20)) + np.float32(0.5),
            "two": np.float32(2.0),
            "a": weights(20, 16),
            "b": weights(16),
            "c": weights(16, 15),
            "d": weights(15),
        },
    ),
    "duelling heads": (
        [
            node("Gemm", ["state", "a", "b"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Gemm", ["r", "va", "vb"], ["value"]),
            node("Gemm", ["r", "aa", "ab"], ["advantage"]),
            node("ReduceMean", ["advantage"], ["mean"], axes=[1], keepdims=1),
            node("Sub", ["advantage", "mean"], ["centred"]),
            node("Add", ["value", "centred"], ["q_values"]),
        ],
        {
            "a": weights(20, 24),
            "b": weights(24),
            "va": weights(24, 1),
            "vb": weights(1),
            "aa": weights(24, 15),
            "ab": weights(15),
        },
    ),
    "duelling heads with hidden layers, one head after the other": (
        [
            node("Gemm", ["state", "a", "b"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Gemm", ["r", "v1", "v1b"], ["vh1"]),
            node("Relu", ["vh1"], ["vr1"]),
            node("Gemm", ["vr1", "v2", "v2b"], ["vh2"]),
            node("Relu", ["vh2"], ["vr2"]),
            node("MatMul", ["vr2", "v3"], ["value"]),
            node("Gemm", ["r", "a1", "a1b"], ["ah1"]),
            node("Relu", ["ah1"], ["ar1"]),
            node("Gemm", ["ar1", "a2", "a2b"], ["ah2"]),
            node("Relu", ["ah2"], ["ar2"]),
            node("MatMul", ["ar2", "a3"], ["advantage"]),
            node("ReduceMean", ["advantage"], ["mean"], axes=[-1], keepdims=1),
            node("Add", ["value", "advantage"], ["sum"]),
            node("Sub", ["sum", "mean"], ["q_values"]),
        ],
        {
            "a": weights(20, 24),
            "b": weights(24),
            "v1": weights(24, 7),
            "v1b": weights(7),
            "v2": weights(7, 5),
            "v2b": weights(5),
            "a1": weights(24, 18),
            "a1b": weights(18),
            "a2": weights(18, 9),
            "a2b": weights(9),
            "v3": weights(5, 1),
            "a3": weights(9, 15),
        },
    ),
    "ReLUs side by side, one unused, one of the state itself": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Relu", ["state"], ["unused"]),
            node("MatMul", ["state", "b"], ["g"]),
            node("Relu", ["g"], ["s"]),
            node("Sub", ["r", "s"], ["difference"]),
            node("Relu", ["state"], ["t"]),
            node("MatMul", ["t", "c"], ["u"]),
            node("Add", ["u", "difference"], ["q_values"]),
        ],
        {"a": weights(20, 15), "b": weights(20, 15), "c": weights(20, 15)},
    ),
    "weights that share a tensor, or lie the other way": (
        [
            node("Identity", ["b"], ["b2"]),
            node("Transpose", ["c"], ["ct"], perm=[1, 0]),
            node("Transpose", ["a"], ["at"]),
            node("MatMul", ["state", "at"], ["h"]),
            node("Add", ["h", "b"], ["g"]),
            node("Relu", ["g"], ["r"]),
            node("Gemm", ["r", "ct", "b2"], ["q_values"]),
        ],
        {"a": weights(15, 20), "b": weights(15), "c": weights(15, 15)},
    ),
    "what does not reach the output": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Tanh", ["h"], ["t"]),
            node("Add", ["t", "t"], ["u"]),
            node("Relu", ["h"], ["r"]),
            node("Relu", ["r"], ["deeper"]),
            node("Dropout", ["r"], ["k", "mask"]),
            node("MatMul", ["k", "b"], ["q_values"]),
        ],
        {"a": weights(20, 12), "b": weights(12, 15)},
    ),
    "numbers held by Constants": (
        [
            node("Constant", [], ["half"], value_float=0.5),
            node("Constant", [], ["bias"], value_floats=[0.25 * k for k in range(15)]),
            node("MatMul", ["state", "a"], ["h"]),
            node("Mul", ["h", "half"], ["g"]),
            node("Add", ["g", "bias"], ["q_values"]),
        ],
        {"a": weights(20, 15)},
    ),
    "a weight held by a Constant": (
        [
            node("Constant", [], ["a"], value=numpy_helper.from_array(weights(20, 15), "a")),
            node("MatMul", ["state", "a"], ["q_values"]),
        ],
        {},
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_gives_what_onnxruntime_gives(name, tmp_path):
    path = graph_file(tmp_path / "m.onnx", *CHAINS[name])
    net = QNet(dense_layers(read_graph(path.read_bytes()), 20))
    states = RNG.random((500, 20), dtype=np.float32)
    expected = ort.InferenceSession(str(path)).run(["q_values"], {"state": states})[0]
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(net(states) - expected) <= 1e-5 * scale).all()
    model = load_model(path)
    assert (model.net is not None, model.why_not_native) == (True, None)


A, B, C = weights(20, 15), weights(15), weights(15, 15)
SCALES = {"s": np.ones(15, np.float32), "o": np.zeros(15, np.float32)}
ALMOST = {
    "another activation": (
        [node("MatMul", ["state", "a"], ["h"]), node("Tanh", ["h"], ["q_values"])],
        {"a": A},
        "operator Tanh",
    ),
    "leaky": (
        [node("MatMul", ["state", "a"], ["h"]), node("LeakyRelu", ["h"], ["q_values"])],
        {"a": A},
        "LeakyRelu",
    ),
    "a shortcut past a ReLU": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Add", ["r", "h"], ["q_values"]),
        ],
        {"a": A},
        "different depths",
    ),
    "heads of different depths": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "c"], ["g"]),
            node("Relu", ["g"], ["s"]),
            node("Add", ["r", "s"], ["q_values"]),
        ],
        {"a": A, "c": C},
        "different depths",
    ),
    "too wide side by side": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Relu", ["h"], ["s"]),
            node("Add", ["r", "s"], ["t"]),
            node("MatMul", ["t", "b"], ["q_values"]),
        ],
        {"a": weights(20, 600), "b": weights(600, 15)},
        "1200 wide",
    ),
    "a state transposed": (
        [
            node("Transpose", ["state"], ["t"]),
            node("Transpose", ["t"], ["u"]),
            node("MatMul", ["u", "a"], ["q_values"]),
        ],
        {"a": A},
        "operator Transpose",
    ),
    "squared": (
        [node("MatMul", ["state", "a"], ["h"]), node("Mul", ["h", "h"], ["q_values"])],
        {"a": A},
        "multiplies what it computes",
    ),
    "normalised by the layer": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("LayerNormalization", ["h", "s", "o"], ["q_values"]),
        ],
        {"a": A, **SCALES},
        "LayerNormalization",
    ),
    "a constant over the constant": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Add", ["h", "c"], ["g"]),
            node("Div", ["c", "g"], ["q_values"]),
        ],
        {"a": A, "c": np.float32(1000.0)},
        "is a constant",
    ),
    "too wide": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "b"], ["q_values"]),
        ],
        {"a": weights(20, 1500), "b": weights(1500, 15)},
        "1500 wide",
    ),
    "by a dropout's mask": (
        [
            node("Dropout", ["state"], ["k", "mask"]),
            node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
            node("MatMul", ["m", "a"], ["q_values"]),
        ],
        {"a": A},
        "operator Cast",
    ),
    "too deep": (
        [
            node("MatMul", ["state", "a"], ["h0"]),
            *[
                n
                for k in range(17)
                for n in (node("Relu", [f"h{k}"], [f"r{k}"]), node("MatMul", [f"r{k}", "c"], [f"h{k + 1}"]))
            ],
            node("Identity", ["h17"], ["q_values"]),
        ],
        {"a": A, "c": C},
        "18 layers",
    ),
    "clipped": (
        [node("MatMul", ["state", "a"], ["h"]), node("Clip", ["h", "low", "high"], ["q_values"])],
        {"a": A, "low": np.float32(-1.0), "high": np.float32(1.0)},
        "operator Clip",
    ),
}


@pytest.mark.parametrize("name", ALMOST)
def test_almost_a_chain_is_served_by_onnxruntime_and_told(name, tmp_path, caplog):
    nodes, constants, why = ALMOST[name]
    path = graph_file(tmp_path / "m.onnx", nodes, constants)
    with pytest.raises(NotAChain, match=re.escape(why)):
        dense_layers(read_graph(path.read_bytes()), 20)
    with caplog.at_level(logging.WARNING, "itp"), itp.TaskPartitioner(path) as p:
        assert p.engine == "onnxruntime"
        d = p.partition_task(itp.Task("t", 10**6))
        assert d.source == "onnxruntime"
        expected = ort.InferenceSession(str(path)).run(["q_values"], {"state": d.state[None]})[0][0]
        assert d.q_value == pytest.approx(expected[d.action], rel=1e-6)
    assert why in caplog.text
    with pytest.raises(itp.ModelError, match=re.escape(why)):
        itp.TaskPartitioner(path, engine="native")
    with pytest.raises(itp.ModelError, match=re.escape(why)):
        itp.native_model(path)


REFUSED = {
    "a mean over the batch": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("ReduceMean", ["h"], ["m"], axes=[0], keepdims=1),
            node("Sub", ["h", "m"], ["q_values"]),
        ],
        {"a": A},
        "takes the mean over",
        "answers every state alike when asked alone",
    ),
    "dropping out": (
        [
            node("MatMul", ["state", "a"], ["h"]),
            node("Dropout", ["h", "ratio", "training"], ["k"]),
            node("Relu", ["k"], ["q_values"]),
        ],
        {"a": A, "ratio": np.float32(0.0), "training": np.bool_(True)},
        "operator Dropout is in training mode",
        "operator Dropout is in training mode",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_engine_may_serve_is_no_chain_either(name, tmp_path):
    nodes, constants, why_no_chain, why_refused = REFUSED[name]
    path = graph_file(tmp_path / "m.onnx", nodes, constants)
    with pytest.raises(NotAChain, match=re.escape(why_no_chain)):
        dense_layers(read_graph(path.read_bytes()), 20)
    for engine in ("auto", "native", "onnxruntime"):
        with pytest.raises(itp.ModelError, match=re.escape(why_refused)):
            itp.TaskPartitioner(path, engine=engine)


def test_a_forward_pass_that_differs_is_not_used(tmp_path, monkeypatch):
    path = dense_chain(tmp_path / "m.onnx", metadata={"schema": 1})

    def slightly_wrong(graph, width):
        layers = dense_layers(graph, width)
        layers[1] = (layers[1][0] * np.float32(1.001), layers[1][1])
        return layers

    monkeypatch.setattr("itp.models.verification.dense_layers", slightly_wrong)
    model = load_model(path)
    assert model.net is None
    assert "differs from onnxruntime on" in model.why_not_native
    # The same values in another order: within the tolerance where Q-values are all alike, other actions.
    monkeypatch.setattr(
        "itp.models.verification.dense_layers",
        lambda graph, width: [
            *dense_layers(graph, width)[:-1],
            tuple(np.ascontiguousarray(part[::-1]) for part in dense_layers(graph, width)[-1]),
        ],
    )
    alike = dense_chain(tmp_path / "alike.onnx", metadata={"schema": 1}, bias=1e6)
    assert "other choices" in load_model(alike).why_not_native


# --- the file ---


def test_the_reader_agrees_with_onnx(tmp_path):
    path = dense_chain(tmp_path / "m.onnx")
    graph = read_graph(path.read_bytes())
    expected = onnx.load(str(path)).graph
    assert [n.op for n in graph.nodes] == [n.op_type for n in expected.node]
    assert [n.inputs for n in graph.nodes] == [tuple(n.input) for n in expected.node]
    for tensor in expected.initializer:
        np.testing.assert_array_equal(graph.constants[tensor.name], numpy_helper.to_array(tensor))
    assert (graph.inputs, graph.outputs) == (["state"], ["q_values"])


@pytest.mark.parametrize("how", ["raw", "typed", "double"])
def test_weights_stored_in_any_of_three_ways(how, tmp_path):
    values = weights(20, 15)
    if how == "raw":
        tensor = numpy_helper.from_array(values, "a")
    elif how == "typed":
        tensor = helper.make_tensor("a", TensorProto.FLOAT, values.shape, values.ravel().tolist())
    else:
        tensor = helper.make_tensor("a", TensorProto.DOUBLE, values.shape, values.ravel().tolist())
    graph = helper.make_graph([], "g", [], [], [tensor])
    content = helper.make_model(graph).SerializeToString()
    np.testing.assert_array_equal(read_graph(content).constants["a"], values)


def huge_claim(shape, raw=b"\0" * 16):
    tensor = TensorProto(name="a", data_type=TensorProto.FLOAT, dims=shape, raw_data=raw)
    graph = helper.make_graph([node("MatMul", ["state", "a"], ["q_values"])], "g", [], [], [tensor])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize("shape", [(2**15, 2**15), (2**62, 2**62), (-4, 1), (5,), ()])
def test_a_claim_of_more_than_is_there(shape, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(huge_claim(shape))
    with pytest.raises(itp.ModelError, match=r"claims|dimension"):
        load_model(path)


def test_every_truncation_is_an_error_or_a_smaller_graph(tmp_path):
    content = dense_chain(tmp_path / "m.onnx", layers=(20, 4, 15)).read_bytes()
    whole = read_graph(content)
    for end in range(len(content)):
        try:
            part = read_graph(content[:end])
        except itp.ModelError:
            continue
        assert len(part.nodes) <= len(whole.nodes)


def test_noise_never_gets_past_the_reader_with_anything_but_a_model_error(tmp_path):
    content = bytearray(dense_chain(tmp_path / "m.onnx", layers=(20, 4, 15)).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(3000):
        noisy = bytearray(content)
        for at in rng.integers(0, len(noisy), rng.integers(1, 8)):
            noisy[at] = rng.integers(0, 256)
        with contextlib.suppress(itp.ModelError, NotAChain):
            dense_layers(read_graph(bytes(noisy)), 20)


def test_weights_that_are_not_finite(tmp_path):
    bad = A.copy()
    bad[3, 4] = np.nan
    path = graph_file(tmp_path / "m.onnx", [node("MatMul", ["state", "a"], ["q_values"])], {"a": bad})
    with pytest.raises(itp.ModelError, match="not finite"):
        load_model(path)
    hidden = {"a": A, "b": np.full(15, np.nan, np.float32), "c": C}
    nodes = [
        node("MatMul", ["state", "a"], ["h"]),
        node("Add", ["h", "b"], ["g"]),
        node("Relu", ["g"], ["r"]),
        node("MatMul", ["r", "c"], ["q_values"]),
    ]
    with pytest.raises(itp.ModelError, match="not finite"):
        load_model(graph_file(tmp_path / "n.onnx", nodes, hidden))


@pytest.mark.parametrize("how", ["initializer", "Constant"])
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_an_operator_that_makes_more_than_a_file_may_hold(op, how, tmp_path):
    lengths = np.array([40_000, 30_000], np.int64)
    before = (
        [] if how == "initializer" else [node("Constant", [], ["n"], value=numpy_helper.from_array(lengths))]
    )
    nodes = [
        *before,
        node(op, ["n"] if op == "ConstantOfShape" else ["one", "n"], ["large"]),
        node("ReduceMean", ["large"], ["mean"], keepdims=0),
        node("MatMul", ["state", "a"], ["h"]),
        node("Add", ["h", "mean"], ["q_values"]),
    ]
    constants = {"a": A, "one": np.ones((1, 1), np.float32)} | ({} if before else {"n": lengths})
    path = graph_file(tmp_path / "m.onnx", nodes, constants)
    with pytest.raises(itp.ModelError, match=rf"operator {op} expands a constant to 1\.2e\+09 values"):
        load_model(path)


def test_weights_in_another_file(tmp_path):
    path = graph_file(tmp_path / "m.onnx", *CHAINS["gemm without bias"])
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(
        itp.ModelError, match="tensor 'a' lies in another file; save the model with its weights"
    ):
        load_model(path)


def test_matrices_without_end_are_not_followed(tmp_path):
    # A few megabytes of file that would take tens of gigabytes: each branch a product of its own.
    wide = weights(20, 1024)
    square = weights(1024, 1024)
    branches = [node("Gemm", ["h", "b"], [f"g{k}"], alpha=0.5) for k in range(100)]
    nodes = [node("MatMul", ["state", "a"], ["m"]), node("Relu", ["m"], ["h"]), *branches]
    path = graph_file(
        tmp_path / "m.onnx",
        [*nodes, node("MatMul", ["g0", "c"], ["q_values"])],
        {"a": wide, "b": square, "c": weights(1024, 15)},
    )
    with pytest.raises(NotAChain, match="too large to follow"):
        dense_layers(read_graph(path.read_bytes()), 20)
