"""A state's Q-values are its own: the same each time, alone, in any batch, in the simulator; or no model."""

from __future__ import annotations

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import itp
from itp._core.qnet import KERNELS, QNet
from itp.cli import main
from itp.models.chain import dense_layers
from itp.models.load import SHIPPED, load_model
from itp.models.onnx import read_graph
from itp.models.serving import serve
from itp.models.verification import N_PROBES, probe_states
from itp.policies.episodes import rollouts
from itp.policies.served import ModelPolicy
from itp.sim import scenario
from itp_overhead import dense_chain
from onnx_models import graph_file

pytestmark = pytest.mark.core

RNG = np.random.default_rng(11)
node = helper.make_node
ENGINES = ("auto", "native", "onnxruntime")


def weights(*shape):
    return (RNG.standard_normal(shape) * 0.3).astype(np.float32)


A, B, C = weights(20, 15), weights(15), weights(15, 15)
ONES = {name: np.ones(15, np.float32) for name in ("scale", "bias", "mean", "variance")}
STATS = ["scale", "bias", "mean", "variance"]
TO_HIDDEN = node("MatMul", ["state", "a"], ["h"])
TRUE, FALSE = np.bool_(True), np.bool_(False)
HALF = np.float32(0.5)


def branch(*nodes):
    """A branch of an If whose result is `r`."""
    result = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "branch", [], [result])


def either(*nodes):
    """An If of which both branches are these operators."""
    return node("If", ["yes"], ["q_values"], then_branch=branch(*nodes), else_branch=branch(*nodes))


NOISY = helper.make_function(
    "here",
    "Noisy",
    ["x"],
    ["y"],
    [node("RandomNormalLike", ["x"], ["n"]), node("Add", ["x", "n"], ["y"])],
    [helper.make_opsetid("", 17)],
)
TRAINING = "in training mode; export the network in evaluation mode"
RANDOM = "draws at random"
AGAIN = "other Q-values when asked again"
ALIKE = "answers every state alike when asked alone"

REFUSED = {
    "batch normalisation in training mode": (
        [TO_HIDDEN, node("BatchNormalization", ["h", *STATS], ["q_values", "m", "v"], training_mode=1)],
        {"a": A, **ONES},
        f"operator BatchNormalization is {TRAINING}",
    ),
    "a dropout in training mode": (
        [TO_HIDDEN, node("Dropout", ["h", "ratio", "yes"], ["q_values"])],
        {"a": A, "ratio": HALF, "yes": TRUE},
        f"operator Dropout is {TRAINING}",
    ),
    "its mode held by a Constant": (
        [
            TO_HIDDEN,
            node("Constant", [], ["yes"], value=onnx.numpy_helper.from_array(np.array(True))),
            node("Dropout", ["h", "ratio", "yes"], ["q_values"], name="drop"),
        ],
        {"a": A, "ratio": HALF},
        f"operator Dropout 'drop' is {TRAINING}",
    ),
    "its mode computed": (
        [TO_HIDDEN, node("Not", ["no"], ["yes"]), node("Dropout", ["h", "ratio", "yes"], ["q_values"])],
        {"a": A, "ratio": HALF, "no": FALSE},
        AGAIN,
    ),
    "a dropout in a branch": (
        [TO_HIDDEN, either(node("Dropout", ["h", "ratio", "yes"], ["r"]))],
        {"a": A, "ratio": HALF, "yes": TRUE},
        TRAINING,
    ),
    **{
        op: ([TO_HIDDEN, *nodes, node("Add", ["h", "n"], ["q_values"])], {"a": A}, f"operator {op} {RANDOM}")
        for op, nodes in {
            "RandomNormalLike": [node("RandomNormalLike", ["h"], ["n"], seed=3.0)],
            "RandomUniformLike": [node("RandomUniformLike", ["h"], ["n"])],
            "RandomNormal": [node("RandomNormal", [], ["n"], shape=[1, 15])],
            "RandomUniform": [node("RandomUniform", [], ["n"], shape=[1, 15], high=1e-6)],
            "Bernoulli": [node("Sigmoid", ["h"], ["p"]), node("Bernoulli", ["p"], ["n"])],
            "Multinomial": [
                node("Multinomial", ["h"], ["i"], sample_size=1),
                node("Cast", ["i"], ["n"], to=TensorProto.FLOAT),
            ],
        }.items()
    },
    "noise in a branch": (
        [TO_HIDDEN, either(node("RandomNormalLike", ["h"], ["n"]), node("Add", ["h", "n"], ["r"]))],
        {"a": A, "yes": TRUE},
        RANDOM,
    ),
    "the mean of the batch": (
        [
            TO_HIDDEN,
            node("ReduceMean", ["h"], ["m"], axes=[0], keepdims=1),
            node("Sub", ["h", "m"], ["q_values"]),
        ],
        {"a": A},
        ALIKE,
    ),
    "softmax over the batch": ([TO_HIDDEN, node("Softmax", ["h"], ["q_values"], axis=0)], {"a": A}, ALIKE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_answers_by_chance_or_by_the_batch_alone_is_refused(name, tmp_path):
    nodes, constants, why = REFUSED[name]
    path = graph_file(tmp_path / "m.onnx", nodes, constants)
    with itp.TaskPartitioner("dqn_v1") as p:
        version = p.metrics().model_version
        for engine in ENGINES:
            with pytest.raises(itp.ModelError, match=re.escape(why)):
                load_model(path, engine=engine)
        with pytest.raises(itp.ModelError, match=re.escape(str(path))):
            p.swap_model(path)
        assert p.partition_task(itp.Task("t", 10**6)).model_version == version


def test_noise_in_a_function_is_refused(tmp_path):
    nodes = [TO_HIDDEN, node("Noisy", ["h"], ["q_values"], domain="here")]
    path = graph_file(tmp_path / "m.onnx", nodes, {"a": A}, functions=[NOISY])
    with pytest.raises(itp.ModelError, match=f"operator RandomNormalLike {RANDOM}"):
        load_model(path)


# --- models whose answer to a state alone is well defined, while a batch gives another ---


def int8(path, **options):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(SHIPPED / "dqn_v1.onnx"), str(path), weight_type=QuantType.QInt8, **options)
    return path


OTHERS = "in a batch its Q-values depend on the other states"
TO_SHAPE = [
    TO_HIDDEN,
    node("Shape", ["state"], ["shape"]),
    node("Cast", ["shape"], ["n"], to=TensorProto.FLOAT),
    node("ReduceMean", ["n"], ["mean"], keepdims=0),
]
ONE_BY_ONE = {
    "the number of states": (
        [*TO_SHAPE, node("Add", ["h", "mean"], ["s"]), node("Sin", ["s"], ["q_values"])],
        {"a": A},
        OTHERS,
    ),
    "the position in the batch": (
        [
            TO_HIDDEN,
            node("Sign", ["state"], ["ones"]),
            node("ReduceMax", ["ones"], ["one"], axes=[1], keepdims=1),
            node("CumSum", ["one", "axis"], ["position"]),
            node("Mul", ["h", "position"], ["p"]),
            node("Sin", ["p"], ["q_values"]),
        ],
        {"a": A, "axis": np.int64(0)},
        OTHERS,
    ),
    "the greatest of the batch": (
        [
            TO_HIDDEN,
            node("ReduceMax", ["h"], ["most"], axes=[0], keepdims=1),
            node("Sub", ["h", "most"], ["below"]),
            node("MatMul", ["below", "c"], ["d"]),
            node("Add", ["h", "d"], ["q_values"]),
        ],
        {"a": A, "c": C},
        OTHERS,
    ),
    "a state that is not finite": (
        [
            TO_HIDDEN,
            node("ReduceMean", ["h"], ["m"], axes=[0], keepdims=1),
            node("Mul", ["m", "zero"], ["z"]),
            node("Tanh", ["h"], ["t"]),
            node("Add", ["t", "z"], ["q_values"]),
        ],
        {"a": A, "zero": np.float32(0.0)},
        "a state that is not finite changes the Q-values of the others in its batch",
    ),
}


@pytest.fixture(params=[*ONE_BY_ONE, "int8"])
def one_by_one(request, tmp_path):
    path = tmp_path / "m.onnx"
    if request.param == "int8":
        return int8(path), OTHERS
    nodes, constants, why = ONE_BY_ONE[request.param]
    return graph_file(path, nodes, constants), why


def alone(path, states):
    """Q-values of states, each in a run of its own."""
    session = load_model(path).session
    return np.concatenate([session.run(["q_values"], {"state": state[None]})[0] for state in states])


def test_what_depends_on_the_batch_is_asked_state_by_state(one_by_one, caplog):
    path, why = one_by_one
    states = RNG.random((70, 20), dtype=np.float32)
    states[5], states[9] = np.nan, np.inf
    expected = alone(path, states)
    model = load_model(path)
    assert why in model.why_one_by_one
    with itp.TaskPartitioner(path) as p:
        np.testing.assert_array_equal(p.q_values(states), expected)
        np.testing.assert_array_equal(p.q_values(states[::-1]), expected[::-1])
    assert f"batches are computed state by state: {model.why_one_by_one}" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_info_says_so(one_by_one, capsys):
    path, why = one_by_one
    assert main(["info", "--model", str(path), "--json"]) == 0
    assert why in json.loads(capsys.readouterr().out)["why_one_by_one"]
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).get("why_one_by_one") is None


def test_threads_that_ask_at_once_get_the_same_bits(tmp_path):
    path = int8(tmp_path / "m.onnx")
    states = RNG.random((64, 20), dtype=np.float32)
    expected = alone(path, states)
    with itp.TaskPartitioner(path) as p, ThreadPoolExecutor(4) as pool:
        parts = [pool.submit(p.q_values, states[k:]) for k in range(40)]
        decisions = [pool.submit(p.partition_task, itp.Task(str(k), 10**6 + k)) for k in range(40)]
        for k, part in enumerate(parts):
            np.testing.assert_array_equal(part.result(), expected[k:])
        for decision in decisions:
            d = decision.result()
            assert d.q_value == alone(path, d.state[None])[0, d.action]


def test_in_the_simulator_it_decides_as_alone(one_by_one):
    path, _ = one_by_one
    worlds = scenario.load("mixed").with_options(tasks=30)
    apart, together = (
        np.concatenate([r.outcomes for r in rollouts(worlds, ModelPolicy(path), range(900, 906), n_envs=n)])
        for n in (1, 6)
    )
    for field in ("arrived_at_s", "completed_at_s", "reward"):
        np.testing.assert_array_equal(np.sort(apart[field]), np.sort(together[field]))


def test_last_bits_that_differ_in_a_batch_are_said(tmp_path):
    # A matrix times a vector is summed in another order than a matrix times several.
    rng = np.random.default_rng(2)
    a, c, d = (rng.standard_normal(shape, np.float32) for shape in ((20, 127), (127, 130), (130, 15)))
    nodes = [
        node("MatMul", ["state", "a"], ["h"]),
        node("Elu", ["h"], ["e"]),
        node("MatMul", ["e", "c"], ["g"]),
        node("Elu", ["g"], ["f"]),
        node("MatMul", ["f", "d"], ["q_values"]),
    ]
    path = graph_file(tmp_path / "m.onnx", nodes, {"a": a, "c": c / 10, "d": d / 10})
    model = load_model(path)
    assert model.why_one_by_one in (None, "in a batch its Q-values differ in their last bits")
    states = probe_states()[:600]
    np.testing.assert_array_equal(serve(model).q_values(states), alone(path, states))


def test_a_file_of_one_state_at_a_time_answers_any_number(tmp_path):
    proto = onnx.load(dense_chain(tmp_path / "m.onnx", metadata={"schema": 1}))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / "one.onnx")
    states = RNG.random((40, 20), dtype=np.float32)
    expected = alone(tmp_path / "one.onnx", states)
    model = load_model(tmp_path / "one.onnx", engine="onnxruntime")
    assert (model.takes_batches, model.why_one_by_one) == (False, "the file takes one state at a time")
    with itp.TaskPartitioner(model.path, engine="onnxruntime") as p:
        np.testing.assert_array_equal(p.q_values(states), expected)
    with itp.TaskPartitioner(model.path) as p:
        assert p.engine == "native"
        assert p.q_values(states[:0]).shape == (0, 15)
        np.testing.assert_allclose(p.q_values(states), expected, rtol=1e-4, atol=1e-5)


# --- the property, for all that is served ---

states_of = st.lists(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=20, max_size=20)
    | st.integers(0, N_PROBES - 1).map(lambda k: probe_states()[k].tolist()),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tanh = [TO_HIDDEN, node("Tanh", ["h"], ["t"]), node("MatMul", ["t", "c"], ["q_values"])]
    norm = [TO_HIDDEN, node("LayerNormalization", ["h", "scale", "bias"], ["q_values"])]
    paths = [
        SHIPPED / "dqn_v1.onnx",
        int8(folder / "int8.onnx"),
        graph_file(folder / "tanh.onnx", tanh, {"a": A, "c": C}),
        graph_file(folder / "norm.onnx", norm, {"a": A, **ONES}),
        graph_file(folder / "greatest.onnx", *ONE_BY_ONE["the greatest of the batch"][:2]),
        graph_file(folder / "position.onnx", *ONE_BY_ONE["the position in the batch"][:2]),
    ]
    return [serve(load_model(path, engine=engine)) for path in paths for engine in ("auto", "onnxruntime")]


@settings(deadline=None, max_examples=60)
@given(states=states_of)
def test_a_state_gets_the_same_bits_alone_and_in_any_batch(served, states):
    states = np.array(states, np.float32)
    for model in served:
        together = model.q_values(states)
        by_itself = np.concatenate([model.q_values(state[None]) for state in states])
        np.testing.assert_array_equal(together, by_itself)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=30)
@given(states=states_of)
def test_every_kernel_keeps_states_apart(kernel, states):
    states = np.array(states, np.float32)
    net = QNet(dense_layers(read_graph((SHIPPED / "dqn_v1.onnx").read_bytes()), 20), kernel=kernel)
    np.testing.assert_array_equal(net(states), np.concatenate([net(state[None]) for state in states]))


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_a_decision_sees_what_q_values_gives(engine, one_by_one, tmp_path):
    for path in ("dqn_v1", one_by_one[0]):
        with itp.TaskPartitioner(path, engine=engine, min_chunk_bytes=1) as p:
            decisions = []
            for k in range(40):
                p.update_stream(k % 4, 10.0 + 37 * k, 1.0 + 5 * k, success_rate=0.9)
                decisions.append(p.partition_task(itp.Task("t", 10**6 * (k + 1))))
            q_values = p.q_values(np.stack([d.state for d in decisions]))
            for d, row in zip(decisions, q_values, strict=True):
                assert d.q_value == row[d.action]
                assert [q for *_, q in d.estimates()] == [
                    row[itp.actions.action_of(streams)] for streams, *_ in d.estimates()
                ]
