"""Files of set models: written, loaded, verified, refused."""

from __future__ import annotations

import json
import logging

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from itp.errors import ModelError, SchemaError
from itp.models import setmodel
from itp.models.load import load_model
from itp.models.metadata import Preferences
from itp.models.onnxruntime import open_session
from itp_overhead import dense_chain
from set_models import forward, random_arrays, set_file, set_model

pytestmark = pytest.mark.core

SUPPORT = {
    "streams": [[-1.0, 1.0]] * 12,
    "context": [[0.0, 1.0]] * 22,
    "candidates": [[-2.0, 2.5]] * 10,
}


@pytest.mark.parametrize("n_streams", [1, 2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize("widths", [(48, 32, 48, 32), (96, 64, 96, 64)])
def test_both_engines_answer_as_numpy_does(tmp_path, n_streams, widths):
    arrays = random_arrays(widths, seed=n_streams)
    path = set_file(tmp_path / "m.onnx", arrays)
    model = load_model(path)
    inputs = setmodel.probes(n_streams)
    expected = forward(arrays, *inputs)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    scale = np.maximum(largest, np.median(largest))
    found = model.set_net(*inputs)
    assert (np.abs(found - expected) <= 1e-5 * scale).all()
    streams, context, candidates, members = inputs
    marked = ((members[:, :, None] >> np.arange(n_streams, dtype=np.uint32)) & 1).astype(np.float32)
    given = {"streams": streams, "context": context, "candidates": candidates, "members": marked}
    (values,) = open_session(path.read_bytes()).run(["values"], given)
    assert (np.abs(values - expected) <= 1e-5 * scale).all()


def test_streams_and_candidates_that_are_padding_change_no_value():
    arrays = random_arrays()
    session = open_session(set_model(arrays).SerializeToString())
    streams, context, candidates, members = setmodel.probes(3)
    marked = ((members[:, :, None] >> np.arange(3, dtype=np.uint32)) & 1).astype(np.float32)
    given = {"streams": streams, "context": context, "candidates": candidates, "members": marked}
    (values,) = session.run(["values"], given)
    padded = {
        "streams": np.pad(streams, ((0, 0), (0, 2), (0, 0)), constant_values=7.0),
        "context": context,
        "candidates": np.pad(candidates, ((0, 0), (0, 4), (0, 0)), constant_values=7.0),
        "members": np.pad(marked, ((0, 0), (0, 4), (0, 2))),
    }
    (more,) = session.run(["values"], padded)
    np.testing.assert_allclose(more[:, : members.shape[1]], values, rtol=1e-5, atol=1e-5)
    assert np.isfinite(more).all()


def test_what_a_loaded_set_model_knows(tmp_path):
    path = set_file(
        tmp_path / "m.onnx",
        metadata={
            "version": "sets-7",
            "preferences": {"typical": 0.1, "balanced": 0.4, "bulk": 1},
            "cap": {"idle_arrivals": 0.05, "idle_factor": 1.25, "factor": 64.0},
            "support": SUPPORT,
        },
    )
    for order in ("fifo", "srpt"):
        model = load_model(path, order)
        assert (model.schema, model.version, model.service_order) == (2, "sets-7", None)
        assert (model.preferences.typical, model.preferences.balanced, model.preferences.bulk) == (
            0.1,
            0.4,
            1,
        )
        assert (model.cap.idle_arrivals, model.cap.idle_factor, model.cap.factor) == (0.05, 1.25, 64.0)
        assert model.support.streams.shape == (12, 2)
        assert model.support.candidates[3].tolist() == [-2.0, 2.5]
    plain = load_model(set_file(tmp_path / "plain.onnx"), engine="native")
    assert plain.preferences == Preferences(0.0, 0.5, 1.0)
    assert plain.cap is plain.support is None
    assert plain.version.startswith("plain-")


def test_a_set_model_without_metadata_is_known_by_its_inputs(tmp_path, caplog):
    path = set_file(tmp_path / "bare.onnx", metadata=False)
    with caplog.at_level(logging.WARNING, "itp"):
        assert load_model(path).schema == 2
    assert "no schema in its metadata; taken as schema 2" in caplog.text


@pytest.mark.parametrize("schema", [0, 3, "2", 2.0, True, None, [2], 10**30])
def test_other_schemas_are_refused(tmp_path, schema):
    path = set_file(tmp_path / "m.onnx", metadata={"schema": schema})
    with pytest.raises(SchemaError, match="this version has schemas 1 and 2"):
        load_model(path)


def test_metadata_inside_and_beside_must_name_one_schema(tmp_path):
    path = set_file(tmp_path / "m.onnx")
    path.with_suffix(".json").write_text('{"schema": 1}')
    with pytest.raises(SchemaError, match="schema 2 by the metadata inside, 1 beside"):
        load_model(path)


def test_a_schema_and_a_graph_of_another_do_not_go_together(tmp_path):
    path = set_file(tmp_path / "m.onnx", metadata={"schema": 1})
    with pytest.raises(ModelError, match=r"needs one input 'state' float32\[batch, 20\]"):
        load_model(path)
    chain = dense_chain(tmp_path / "chain.onnx", metadata={"schema": 2})
    with pytest.raises(ModelError, match=r"needs the inputs 'streams' float32\[any, any, 12\]"):
        load_model(chain)


def test_a_model_of_schema_1_for_three_streams(tmp_path):
    path = dense_chain(tmp_path / "three.onnx", layers=(16, 32, 7), metadata={"schema": 1})
    with pytest.raises(ModelError, match="as for 3 streams: a model of schema 1 decides over 4"):
        load_model(path)


def test_onnxruntime_is_no_engine_of_set_models(tmp_path):
    path = set_file(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="engine='onnxruntime' serves models of schema 1"):
        load_model(path, engine="onnxruntime")


def without(name):
    def change(model):
        kept = [t for t in model.graph.initializer if t.name != name]
        (gone,) = [t for t in model.graph.initializer if t.name == name]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        # The graph still computes: the weight goes by another name.
        gone.name = "other"
        model.graph.initializer.append(gone)
        for node in model.graph.node:
            node.input[:] = ["other" if n == name else n for n in node.input]

    return change


def of_arrays(arrays):
    return lambda model: model.CopyFrom(set_model(arrays))


def spoiled(value):
    arrays = random_arrays()
    arrays["pool.weight"][3, 2] = value
    return of_arrays(arrays)


def with_width(width):
    return of_arrays(random_arrays((width, 16, 16, 16)))


def with_node(index, op):
    def change(model):
        model.graph.node[index].op_type = op

    return change


def with_static_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def with_inputs_renamed(model):
    for node in model.graph.node:
        node.input[:] = ["sets" if n == "members" else n for n in node.input]
    model.graph.input[3].name = "sets"


def of_other_features(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 11


def with_two_outputs(model):
    model.graph.output.append(helper.make_tensor_value_info("z", 1, ["batch", "k", 48]))


def with_other_weights_beside(model):
    """The weights that are read are not those that the graph computes with."""
    other = numpy_helper.from_array(random_arrays(seed=9)["second.weight"], "other")
    model.graph.initializer.append(other)
    for node in model.graph.node:
        node.input[:] = ["other" if n == "second.weight" else n for n in node.input]


def last_relu(model):
    return max(k for k, node in enumerate(model.graph.node) if node.op_type == "Relu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("pool.weight"), "missing: pool.weight"),
        (without("out.bias"), "missing: out.bias"),
        (spoiled(np.nan), "pool.weight has values that are not finite"),
        (spoiled(np.inf), "pool.weight has values that are not finite"),
        (with_width(256), "a layer of 256 outputs: expected a multiple of 16, at most 128"),
        (with_width(40), "a layer of 40 outputs"),
        (with_static_batch, "needs the inputs 'streams'"),
        (of_other_features, "onnxruntime .* cannot load it|needs the inputs 'streams'"),
        (with_inputs_renamed, "'sets' tensor"),
        (with_two_outputs, "needs the output 'values'"),
        (with_other_weights_beside, "differs from onnxruntime on 24 of 24 probes"),
        (lambda model: with_node(last_relu(model), "Sigmoid")(model), "differs from onnxruntime"),
        (lambda model: with_node(last_relu(model), "Log")(model), "not finite"),
        (lambda model: model.graph.node.pop(), "cannot load it"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_files_that_are_wrong(tmp_path, change, message):
    model = set_model()
    change(model)
    helper.set_model_props(model, {"itp": json.dumps({"schema": 2})})
    path = tmp_path / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"preferences": 0.5}, "preferences: expected an object with typical, balanced, bulk"),
        ({"preferences": {"typical": 0, "balanced": 0.5}}, "preferences: expected an object"),
        (
            {"preferences": {"typical": 0, "balanced": 2, "bulk": 1}},
            "balanced: expected a number from 0 to 1",
        ),
        ({"preferences": {"typical": 0.6, "balanced": 0.5, "bulk": 1}}, "typical <= balanced <= bulk"),
        ({"preferences": {"typical": 0, "balanced": True, "bulk": 1}}, "balanced: expected a number"),
        ({"cap": {"idle_factor": 1.25}}, "cap: expected an object with idle_arrivals, idle_factor, factor"),
        (
            {"cap": {"idle_arrivals": 0.1, "idle_factor": 0.5, "factor": 2}},
            "idle_factor: expected a number from 1",
        ),
        (
            {"cap": {"idle_arrivals": -1, "idle_factor": 1.5, "factor": 2}},
            "idle_arrivals: expected a number from 0",
        ),
        ({"support": {}}, "support: expected an object with streams, context, candidates"),
        ({"support": SUPPORT | {"streams": [[0, 1]] * 11}}, "support: streams: expected a list of 12"),
        ({"support": SUPPORT | {"context": [[1, 0]] * 22}}, "context: expected pairs of ascending numbers"),
        ({"support": SUPPORT | {"candidates": [[0, 1e300]] * 10}}, "candidates: expected a number from -1e"),
        ({"support": SUPPORT | {"candidates": [0] * 10}}, "candidates: expected a list of 2"),
    ],
)
def test_metadata_of_schema_2_that_is_wrong(tmp_path, metadata, message):
    path = set_file(tmp_path / "m.onnx", metadata=metadata)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_nan_in_metadata_beside(tmp_path):
    path = set_file(tmp_path / "m.onnx")
    path.with_suffix(".json").write_text(
        '{"cap": {"idle_arrivals": NaN, "idle_factor": 1.5, "factor": 2}, "schema": 2}'
    )
    with pytest.raises(ModelError, match="idle_arrivals: expected a number"):
        load_model(path)


def test_a_truncated_file(tmp_path):
    content = set_file(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            load_model(path)


def test_the_file_is_valid_onnx():
    onnx.checker.check_model(set_model(), full_check=True)
