"""Models: what is served, what is refused, swaps."""

from __future__ import annotations

import hashlib
import json
import threading

import numpy as np
import onnx
import pytest

import itp
from itp import actions
from itp._core.decider import Slot
from itp.models import serving
from itp.models.load import load_model
from itp_overhead import dense_chain
from onnx_models import forward

pytestmark = pytest.mark.core


@pytest.fixture
def model(tmp_path):
    return dense_chain(tmp_path / "net.onnx", metadata={"schema": 1, "version": "v7"})


def test_the_model_decides(model):
    with itp.TaskPartitioner(model=model, min_chunk_bytes=1) as p:
        for k in range(50):
            p.update_stream(k % 4, bandwidth_mbps=10.0 + 7 * k, latency_ms=1.0 + k)
            d = p.partition_task(itp.Task("t", 10**6 * (k + 1)))
            q = forward(model, d.state[None])[0]
            assert d.action == int(np.argmax(q))
            assert d.q_value == pytest.approx(q.max(), rel=1e-4, abs=1e-5)
            assert d.source == "native"
            assert d.model_version == "v7"
            assert sum(d.chunk_sizes) == d.task.size_bytes
        assert p.metrics().model_decisions == 50
        assert p.metrics().model_version == "v7"


def test_masks_hold_for_the_model_too(model):
    with itp.TaskPartitioner(model=model, min_chunk_bytes=1) as p:
        for down in range(4):
            for i in range(4):
                p.set_stream_up(i, i != down)
            d = p.partition_task(itp.Task("t", 10**6))
            assert down not in d.stream_ids
            q = forward(model, d.state[None])[0]
            allowed = [a for a, streams in enumerate(actions.ACTIONS) if down not in streams]
            assert d.action == max(allowed, key=lambda a: q[a])
        d = p.partition_task(itp.Task("t", 10**6, redundancy=2))
        assert len(d.stream_ids) == 2
        rows = p.explain(d).actions
        assert all(a.q_value is not None for a in rows if a.expected_time_s is not None)


def test_exploration_with_a_model(model):
    with itp.TaskPartitioner(model=model, epsilon=0.5, seed=3) as p:
        decisions = [p.partition_task(itp.Task("t", 10**9)) for _ in range(400)]
    assert 120 < sum(d.explored for d in decisions) < 280
    assert {d.source for d in decisions} == {"native"}


def test_engine_heuristic_loads_no_model(model):
    with itp.TaskPartitioner(model="no such file", engine="heuristic") as p:
        assert p.partition_task(itp.Task("t", 1)).source == "heuristic"
        with pytest.raises(ValueError, match="engine"):
            p.swap_model(model)


def write(path, content):
    path.write_bytes(content)
    return path


def bad_models(tmp_path, good):
    content = good.read_bytes()
    yield "missing", tmp_path / "missing.onnx", itp.ModelError
    yield "unknown name", "dqn_v99", itp.ModelError
    yield "a folder", tmp_path, itp.ModelError
    yield "empty", write(tmp_path / "empty.onnx", b""), itp.ModelError
    yield "garbage", write(tmp_path / "garbage.onnx", b"\x00garbage" * 100), itp.ModelError
    for part in (1, 100, len(content) // 2, len(content) - 1):
        yield f"cut at {part}", write(tmp_path / f"cut{part}.onnx", content[:part]), itp.ModelError
    yield "21 inputs", dense_chain(tmp_path / "in.onnx", layers=(21, 8, 15)), itp.ModelError
    yield "14 outputs", dense_chain(tmp_path / "out.onnx", layers=(20, 8, 14)), itp.ModelError
    yield "input name", dense_chain(tmp_path / "name.onnx", input_name="x"), itp.ModelError
    yield "output name", dense_chain(tmp_path / "oname.onnx", output_name="y"), itp.ModelError
    yield "NaN", dense_chain(tmp_path / "nan.onnx", bias=float("nan")), itp.ModelError
    yield "infinite", dense_chain(tmp_path / "inf.onnx", bias=float("inf")), itp.ModelError
    yield "schema 3", dense_chain(tmp_path / "schema.onnx", metadata={"schema": 3}), itp.SchemaError
    other = dense_chain(tmp_path / "sha.onnx")
    other.with_suffix(".json").write_text(json.dumps({"sha256": "0" * 64}))
    yield "wrong SHA-256", other, itp.ModelError
    both = dense_chain(tmp_path / "both.onnx", metadata={"schema": 2})
    both.with_suffix(".json").write_text('{"schema": 1}')
    yield "schemas that contradict", both, itp.SchemaError
    yield "schema true", dense_chain(tmp_path / "true.onnx", metadata={"schema": True}), itp.SchemaError
    deep = dense_chain(tmp_path / "deep.onnx")
    deep.with_suffix(".json").write_text("[" * 100_000)
    yield "deeply nested JSON", deep, itp.ModelError
    outside = onnx.load(str(good))
    onnx.save(
        outside, str(tmp_path / "ext.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    yield "weights in another file", tmp_path / "ext.onnx", itp.ModelError
    broken = dense_chain(tmp_path / "meta.onnx")
    broken.with_suffix(".json").write_text("{")
    yield "broken JSON", broken, itp.ModelError
    listed = dense_chain(tmp_path / "list.onnx")
    listed.with_suffix(".json").write_text("[]")
    yield "JSON that is no object", listed, itp.ModelError


def test_bad_models_are_refused_and_the_old_one_goes_on(tmp_path, model, monkeypatch):
    # Weights beside the working directory must not be found either.
    monkeypatch.chdir(tmp_path)
    with itp.TaskPartitioner(model=model) as p:
        for what, path, error in bad_models(tmp_path, model):
            with pytest.raises(error) as caught:
                itp.TaskPartitioner(model=path)
            assert str(path) in str(caught.value) or "metadata" in str(caught.value), what
            with pytest.raises(error):
                p.swap_model(path)
            assert p.partition_task(itp.Task("t", 1)).model_version == "v7", what


def test_a_folder_is_no_model_and_its_models_are_named(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(itp.ModelError, match=r"is a folder; pass the path of an \.onnx file"):
        itp.TaskPartitioner(tmp_path / "sub")
    (tmp_path / "sub" / "a.onnx").touch()
    (tmp_path / "sub" / "b.onnx").touch()
    with pytest.raises(itp.ModelError, match=r"is a folder; pass \S+sub/a\.onnx or \S+sub/b\.onnx$"):
        itp.TaskPartitioner(tmp_path / "sub")


def test_a_half_precision_model_is_refused(tmp_path, model):
    content = onnx.load(str(model))
    content.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(content, str(tmp_path / "double.onnx"))
    with pytest.raises(itp.ModelError):
        itp.TaskPartitioner(model=tmp_path / "double.onnx")


def test_metadata_beside_the_file(tmp_path):
    path = dense_chain(tmp_path / "net.onnx")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"schema": 1, "sha256": sha256, "version": "beside"}))
    assert load_model(path).version == "beside"
    path.with_suffix(".json").unlink()
    assert load_model(path).version == f"net-{sha256[:8]}"


def test_models_need_four_streams(model):
    with pytest.raises(ValueError, match="n_streams=4"):
        itp.TaskPartitioner(model=model, n_streams=5)
    with pytest.raises(TypeError, match="model"):
        itp.TaskPartitioner(model=5)


def test_swap(tmp_path, model):
    second = dense_chain(tmp_path / "second.onnx", seed=5, metadata={"version": "v8", "schema": 1})
    with itp.TaskPartitioner(model=None) as p:
        assert p.partition_task(itp.Task("t", 1)).source == "heuristic"
        p.swap_model(model)
        before = p.partition_task(itp.Task("t", 1))
        p.swap_model(second)
        after = p.partition_task(itp.Task("t", 1))
        assert (before.model_version, after.model_version) == ("v7", "v8")
        p.report_outcome(before, 1.0, 1.0, True)
        p.report_outcome(after, 1.0, 1.0, True)


def test_swaps_while_threads_decide(tmp_path, model):
    second = dense_chain(tmp_path / "second.onnx", seed=5, metadata={"version": "v8", "schema": 1})
    stop = threading.Event()
    errors = []
    with itp.TaskPartitioner(model=model) as p:

        def decide():
            try:
                while not stop.is_set():
                    d = p.partition_task(itp.Task("t", 10**6))
                    q = forward({"v7": model, "v8": second}[d.model_version], d.state[None])[0]
                    assert d.q_value == pytest.approx(q[d.action], rel=1e-3, abs=1e-4)
                    p.report_outcome(d, 1.0, 1.0, True)
            except Exception as error:  # handed to the main thread
                errors.append(error)

        threads = [threading.Thread(target=decide) for _ in range(3)]
        for t in threads:
            t.start()
        for k in range(20):
            p.swap_model(second if k % 2 else model)
        stop.set()
        for t in threads:
            t.join()
        assert not errors
        assert p.metrics().in_flight == 0


def test_evaluate_measures_the_model_in_use(tmp_path, model):
    with itp.TaskPartitioner(model=model) as p:
        expected = p.evaluate(episodes=2)
        dense_chain(model, seed=5, metadata={"schema": 1, "version": "another"})
        assert p.evaluate(episodes=2) == expected
        p.swap_model(model)
        assert p.evaluate(episodes=2) != expected
        model.unlink()
        assert p.evaluate(episodes=2) != expected


def test_q_values_of_a_model_that_fails_in_service(model, monkeypatch):
    def run():
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : device lost\n")

    slot = Slot(np.zeros(20, np.float32), np.zeros(15, np.float32), run)
    proto = onnx.load(str(model))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, str(model))
    monkeypatch.setattr(serving, "bound_slot", lambda _session: slot)
    with itp.TaskPartitioner(model=model, engine="onnxruntime") as p:
        with pytest.raises(itp.ModelError, match=r"^model v7 failed: device lost$"):
            p.q_values(np.zeros((2, 20)))
        assert p.q_values(np.zeros((0, 20))).shape == (0, 15)


@pytest.mark.parametrize("broken", ["raises", "nan"])
def test_a_model_that_fails_in_service_gives_way_to_the_heuristic(model, monkeypatch, caplog, broken):
    state, q_values = np.zeros(20, np.float32), np.full(15, np.nan, np.float32)

    def run():
        if broken == "raises":
            raise RuntimeError("device lost")

    monkeypatch.setattr(serving, "bound_slot", lambda _session: Slot(state, q_values, run))
    with itp.TaskPartitioner(model=model, engine="onnxruntime") as p:
        d = p.partition_task(itp.Task("t", 10**6))
        assert (d.source, d.q_value, d.model_version) == ("heuristic", None, None)
        assert ("device lost" in caplog.text) == (broken == "raises")
        assert p.metrics().model_decisions == 0
