"""Files that are odd, wrong or hostile: one clear line that names the file; the old model goes on serving."""

from __future__ import annotations

import json
import os
import random
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import itp
from itp.experience.record import TEXT_BYTES
from itp.models.load import load_model
from itp.models.metadata import MAX_VERSION_BYTES
from itp_overhead import dense_chain
from onnx_models import Q_VALUES, STATE, graph_file, graph_model

pytestmark = pytest.mark.core

node = helper.make_node
info = helper.make_tensor_value_info
A = np.random.default_rng(3).standard_normal((20, 15)).astype(np.float32)
HALF = A.astype(np.float16)
DENSE = [node("MatMul", ["state", "a"], ["q_values"])]
# A constant `c` that takes part in the answers.
TO_HIDDEN = node("MatMul", ["state", "a"], ["h"])
WITH_C = [
    TO_HIDDEN,
    node("Cast", ["c"], ["cf"], to=TensorProto.FLOAT),
    node("ReduceMean", ["cf"], ["m"], keepdims=0),
    node("Add", ["h", "m"], ["q_values"]),
]
OTHER_TYPES = (
    "FLOAT16",
    "BFLOAT16",
    "INT8",
    "UINT32",
    "UINT64",
    "FLOAT8E4M3FN",
    "INT4",
    "STRING",
    "COMPLEX128",
)


def claiming(kind, dims):
    """A tensor `c` of 16 bytes that claims any number of values."""
    return TensorProto(name="c", data_type=getattr(TensorProto, kind), dims=dims, raw_data=b"\0" * 16)


def sparse(dims):
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [3])
    return onnx.SparseTensorProto(values=values, indices=indices, dims=dims)


def with_sparse(dims):
    model = graph_model(DENSE, {"a": A})
    model.graph.sparse_initializer.append(sparse(dims))
    return model


def outside():
    model = graph_model(DENSE, {"a": A})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def nested(depth):
    graph = helper.make_graph([node("Identity", ["h"], ["r"])], "g", [], [info("r", 1, None)])
    for _ in range(depth):
        branches = {"then_branch": graph, "else_branch": helper.make_graph([], "e", [], [info("r", 1, None)])}
        graph = helper.make_graph([node("If", ["yes"], ["r"], **branches)], "g", [], [info("r", 1, None)])
    return graph_model([TO_HIDDEN, *graph.node], {"a": A, "yes": np.bool_(True)})


def with_name(bad, good=b"state"):
    """A model one of whose texts is not UTF-8."""
    return graph_model(DENSE, {"a": A}).SerializeToString().replace(good, bad)


BAD = {
    **{
        f"{kind} that claims {dims}": (graph_model(WITH_C, {"a": A, "c": claiming(kind, dims)}), "claims")
        for kind in OTHER_TYPES
        for dims in ([2**20, 2**12], [2**31, 2], [2**40, 2**40])
    },
    "a dimension under zero": (
        graph_model(WITH_C, {"a": A, "c": claiming("INT8", [-1, 4])}),
        "dimension of -1",
    ),
    "a sparse tensor of 8 GB": (with_sparse([2**16, 2**15]), "tensor 's' is sparse"),
    "a sparse tensor without end": (with_sparse([2**40, 2**40]), "tensor 's' is sparse"),
    "a sparse constant": (
        graph_model([node("Constant", [], ["c"], sparse_value=sparse([2**16, 2**15])), *WITH_C], {"a": A}),
        "tensor 's' is sparse",
    ),
    "weights in another file": (outside(), "tensor 'a' lies in another file"),
    "a range without end": (
        graph_model(
            [node("Range", ["zero", "end", "one"], ["c"]), *WITH_C],
            {"a": A, **{name: np.float64(x) for name, x in (("zero", 0), ("end", 1e18), ("one", 1))}},
        ),
        "(fails on a probe state|cannot load it).*alloc",
    ),
    "an opset of the future": (
        graph_model(DENSE, {"a": A}, opset=99),
        "onnxruntime .* cannot load it: .*[Oo]pset",
    ),
    "an IR of the future": (graph_model(DENSE, {"a": A}, ir_version=99), "onnxruntime .*IR version: 99"),
    "an unknown operator": (
        graph_model([node("Frobnicate", ["state", "a"], ["q_values"])], {"a": A}),
        "Frobnicate",
    ),
    "an unknown domain": (
        graph_model([node("MatMul", ["state", "a"], ["q_values"], domain="acme")], {"a": A}),
        "acme",
    ),
    "an index out of range": (
        graph_model(
            [node("Gather", ["a", "i"], ["row"]), TO_HIDDEN, node("Add", ["h", "row"], ["q_values"])],
            {"a": A, "i": np.array([77])},
        ),
        r"(fails on a probe state|cannot load it).*idx=77 must be within the inclusive range \[-20,19\]$",
    ),
    "one more input": (
        graph_model(DENSE, {"a": A}, inputs=[STATE, info("more", TensorProto.FLOAT, [1])]),
        r"needs one input 'state' float32\[batch, 20\]; the file has 'state'.*, 'more'",
    ),
    "many inputs": (
        graph_model(DENSE, {"a": A}, inputs=[STATE, *(info(f"{k}" * 99, 1, [1]) for k in range(50))]),
        "needs one input .* and 47 more",
    ),
    "no input": (
        graph_model([node("Identity", ["a"], ["q_values"])], {"a": A}, inputs=[]),
        "the file has none",
    ),
    "one more output": (
        graph_model(
            [*DENSE, node("Relu", ["q_values"], ["r"])], {"a": A}, outputs=[Q_VALUES, info("r", 1, None)]
        ),
        "needs one output 'q_values'",
    ),
    "any width": (graph_model(DENSE, {"a": A}, inputs=[info("state", 1, ["batch", "w"])]), "needs one input"),
    "no shape": (graph_model(DENSE, {"a": A}, inputs=[info("state", 1, None)]), "needs one input"),
    "three dimensions": (
        graph_model(DENSE, {"a": A}, inputs=[info("state", 1, ["b", 1, 20])]),
        "needs one input",
    ),
    "eight states": (graph_model(DENSE, {"a": A}, inputs=[info("state", 1, [8, 20])]), "needs one input"),
    "half-precision states": (
        graph_model(
            DENSE,
            {"a": HALF},
            inputs=[info("state", TensorProto.FLOAT16, ["b", 20])],
            outputs=[info("q_values", TensorProto.FLOAT16, ["b", 15])],
        ),
        r"needs one input 'state' float32.*tensor\(float16\)",
    ),
    "double Q-values": (
        graph_model(
            [TO_HIDDEN, node("Cast", ["h"], ["q_values"], to=TensorProto.DOUBLE)],
            {"a": A},
            outputs=[info("q_values", TensorProto.DOUBLE, ["b", 15])],
        ),
        "needs one output",
    ),
    "a list of outputs": (
        graph_model(
            [TO_HIDDEN, node("SequenceConstruct", ["h"], ["q_values"])],
            {"a": A},
            outputs=[helper.make_tensor_sequence_value_info("q_values", 1, None)],
        ),
        "needs one output",
    ),
    "one answer for all": (
        graph_model(
            [TO_HIDDEN, node("ReduceMean", ["h"], ["q_values"], axes=[0])],
            {"a": A},
            outputs=[info("q_values", 1, [1, 15])],
        ),
        r"answers 256 states with shape \(1, 15\)",
    ),
    "NaN in a half-precision weight": (
        graph_model(WITH_C, {"a": A, "c": np.array([1, np.nan], np.float16)}),
        "not finite",
    ),
    "weights that overflow": (graph_model(DENSE, {"a": A * np.float32(1e38)}), "not finite"),
    "graphs within graphs": (nested(30), "more than 20 deep"),
    "too many operators": (
        graph_model([node("Identity", ["state"], [f"i{k}"]) for k in range(10_001)], {}),
        "more than 10000 operators",
    ),
    "a name that is not UTF-8": (with_name(b"sta\xc8e"), "not a valid ONNX model"),
    "metadata that is not UTF-8": (with_name(b'{"schema": \xff}', b'{"schema": 1}'), "not UTF-8"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return dense_chain(tmp_path_factory.mktemp("m") / "good.onnx", metadata={"schema": 1, "version": "good"})


def refused(path, partitioner):
    """The text of the one error that loading and swapping give; the old model goes on."""
    texts = []
    for call in (load_model, partitioner.swap_model):
        with pytest.raises(itp.ModelError) as caught:
            call(path)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert partitioner.partition_task(itp.Task("t", 1)).model_version == "good"
    return texts[0]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_line(name, tmp_path, good):
    content, why = BAD[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with itp.TaskPartitioner(good) as p:
        text = refused(path, p)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < len(str(path)) + 600
    assert re.search(why, text), text


ODD = {
    "half-precision weights": (
        [node("Cast", ["a"], ["w"], to=TensorProto.FLOAT), node("MatMul", ["state", "w"], ["q_values"])],
        {"a": HALF},
    ),
    "half-precision sums": (
        [
            node("Cast", ["state"], ["s"], to=TensorProto.FLOAT16),
            node("MatMul", ["s", "a"], ["h"]),
            node("Cast", ["h"], ["q_values"], to=TensorProto.FLOAT),
        ],
        {"a": HALF},
    ),
    "brain-float weights": (
        [node("Cast", ["c"], ["w"], to=TensorProto.FLOAT), node("MatMul", ["state", "w"], ["q_values"])],
        {
            "c": TensorProto(
                name="c",
                data_type=TensorProto.BFLOAT16,
                dims=[20, 15],
                raw_data=(A.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
            )
        },
    ),
    "probabilities": ([TO_HIDDEN, node("Softmax", ["h"], ["q_values"], axis=1)], {"a": A}),
    "denormal weights": (DENSE, {"a": A * np.float32(1e-42)}),
    "no weight at all": (DENSE, {"a": A * 0}),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_that_answers_well_is_served(name, tmp_path):
    path = graph_file(tmp_path / "m.onnx", *ODD[name])
    states = np.random.default_rng(0).random((20, 20), dtype=np.float32)
    (expected,) = load_model(path).session.run(["q_values"], {"state": states})
    with itp.TaskPartitioner(path) as p:
        np.testing.assert_allclose(p.q_values(states), expected, rtol=1e-4, atol=1e-6)
        assert p.partition_task(itp.Task("t", 1)).source in ("native", "onnxruntime")


# --- metadata ---

METADATA = {
    '{"schema": 1, "schema": 3}': "state schema 3",
    '{"schema": 1.0}': "state schema 1.0",
    '{"schema": NaN}': "state schema nan",
    '{"schema": "' + "1" * 5000 + '"}': "state schema 1111.* ... 1111",
    '{"schema": 1' + "0" * 5000 + "}": "cannot be read",
    '\ufeff{"schema": 1}': "cannot be read",
    "[" * 100_000: "cannot be read",
    "null": "must be a JSON object",
    '{"schema": 1, "version": 7}': "version is 7; expected text",
    '{"schema": 1, "version": ""}': "version is ''",
    '{"schema": 1, "version": "a\\nb"}': r"version is 'a\\nb'",
    '{"schema": 1, "version": "\\u202e"}': "version is",
    '{"schema": 1, "version": "\\ud800"}': "version is",
    '{"schema": 1, "version": "' + "é" * 33 + '"}': "of 1 to 64 bytes",
    '{"schema": 1, "version": ["v"]}': "version is",
    '{"schema": 1, "guard": 5}': "guard: expected an object",
    '{"schema": 1, "guard": {"rule": "single_best", "threshold": 1e999}}': "threshold",
    '{"schema": 1, "guard": {"rule": "' + "x" * 5000 + '", "threshold": 2}}': "rule is 'x.*x'; expected",
    '{"schema": 1, "service_order": []}': r"service_order is \[\]; expected fifo or srpt",
    '{"schema": 1, "service_order": "' + "x" * 5000 + '"}': "service_order is 'x",
    '{"schema": 1, "hard_deadlines": "' + "x" * 5000 + '"}': "hard_deadlines is 'x",
    '{"schema": 1, "calibration": []}': "calibration",
}


@pytest.mark.parametrize("where", ["inside", "beside"])
@pytest.mark.parametrize("text", METADATA, ids=lambda text: text[:40])
def test_metadata_that_is_wrong(text, where, tmp_path, good):
    path = graph_file(tmp_path / "m.onnx", DENSE, {"a": A}, metadata=text if where == "inside" else "{}")
    if where == "beside":
        path.with_suffix(".json").write_text(text, "utf-8")
    with itp.TaskPartitioner(good) as p:
        told = refused(path, p)
    assert str(path.with_suffix("")) in told
    assert told.isprintable()
    assert len(told) < len(str(path)) + 600
    assert re.search(METADATA[text], told), told


def test_a_version_is_as_long_as_an_experience_keeps():
    assert MAX_VERSION_BYTES == TEXT_BYTES


def test_a_version_from_the_name_of_the_file_is_short(tmp_path):
    path = graph_file(tmp_path / f"{'é' * 100}\n.onnx", DENSE, {"a": A})
    model = load_model(path)
    assert model.version == f"{'é' * 27}-{model.sha256[:8]}"
    assert len(model.version.encode()) <= MAX_VERSION_BYTES


def test_a_sha256_that_is_no_text(tmp_path, good):
    path = graph_file(tmp_path / "m.onnx", DENSE, {"a": A})
    path.with_suffix(".json").write_text(json.dumps({"sha256": ["x" * 1000]}))
    with itp.TaskPartitioner(good) as p:
        assert len(refused(path, p)) < len(str(path)) + 600


def test_metadata_that_is_no_file_or_too_large(tmp_path, good):
    path = graph_file(tmp_path / "m.onnx", DENSE, {"a": A})
    beside = path.with_suffix(".json")
    with itp.TaskPartitioner(good) as p:
        os.mkfifo(beside)  # reading it would wait for a writer
        assert "the metadata must be a file" in refused(path, p)
        beside.unlink()
        beside.mkdir()
        assert "the metadata must be a file" in refused(path, p)
        beside.rmdir()
        with beside.open("wb") as file:
            file.truncate(2**30)
        assert "metadata has at most" in refused(path, p)


def test_paths_that_no_system_takes(good):
    with itp.TaskPartitioner(good) as p:
        for path in ("x" * 5000, "a\0b", "/proc/self/mem/x", ""):
            with pytest.raises(itp.ModelError) as caught:
                p.swap_model(path)
            assert len(str(caught.value)) < 700


# --- noise ---


def test_noise_is_refused_or_served(tmp_path):
    """Whatever a few bytes become: a ModelError in one line, or a model that answers."""
    contents = [
        dense_chain(tmp_path / "a.onnx", layers=(20, 4, 15), metadata={"schema": 1}).read_bytes(),
        graph_model(WITH_C, {"a": A[:, :15], "c": np.ones(3, np.float16)}).SerializeToString(),
        graph_model(*ODD["half-precision sums"]).SerializeToString(),
        nested(3).SerializeToString(),
    ]
    chance = random.Random(5)
    path = tmp_path / "m.onnx"
    outcomes = set()
    for _ in range(600):
        content = bytearray(chance.choice(contents))
        for _ in range(chance.randint(1, 4)):
            # Half of the time where names and lengths are, not weights.
            at = chance.randrange(len(content) if chance.random() < 0.5 else 300)
            if chance.random() < 0.7:
                content[at] = chance.randrange(256)
            else:
                content[at : at + chance.randint(0, 8)] = chance.randbytes(chance.randint(0, 8))
        path.write_bytes(content)
        text = loaded_or_refused(path)
        assert text.isprintable()
        assert len(text) < len(str(path)) + 600
        outcomes.add(text != "")
    assert outcomes == {True, False}


def loaded_or_refused(path):
    """The text of the ModelError, if there is one."""
    try:
        load_model(path)
    except itp.ModelError as error:
        return str(error)
    return ""
