"""``itp bench`` as a command, with next to no time to measure in: no figure is held against the clock."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from itp.models.load import load_model
from itp.partitioner import TaskPartitioner
from itp_overhead import batches, decisions, dense_chain, load, replay, suite
from itp_overhead.calls import random_states
from itp_overhead.cli import main
from itp_overhead.networks import layers_of, torch_forward
from itp_overhead.timing import Subject, Timing, interleave
from processes import children_of, group_of

ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
TIMEOUT_S = 120
SUBJECTS = {
    decisions.HEURISTIC,
    decisions.NATIVE,
    decisions.FORWARD,
    decisions.ONNXRUNTIME,
    decisions.BARE,
    decisions.TORCH,
    decisions.NOTHING,
}
IN_THREADS = ["idle", "1 busy thread", "2 busy threads", "4 busy threads", "metric updates", "model swaps"]


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    """A folder for temporary files, in which none of ours may be in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.glob("itp-bench-*"))


@pytest.fixture
def no_learner(monkeypatch):
    """The learner takes seconds to start; one test has it."""

    def learner():
        raise load.NotMeasured("not in this test")

    monkeypatch.setattr(load, "learner", learner)


def bench(capsys, *args):
    code = main([*map(str, args)], prog="itp bench")
    out, err = capsys.readouterr()
    return code, out, err


def load_threads():
    return [thread for thread in threading.enumerate() if thread.name == "itp-bench-load"]


# --- what is measured ---


def test_everything_as_json(capsys, no_learner, monkeypatch):
    monkeypatch.setattr(replay, "STORED", 1000)
    code, out, err = bench(capsys, "--seconds", 1.0, "--calls", 200, "--json")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert code == 0
    assert set(found) == {"machine", "versions", "model", "seconds", "calls", *suite.SECTIONS}
    assert found["model"]["native"]
    assert found["machine"]["cpus"] >= 1
    conditions = found["decisions"]["conditions"]
    assert [condition["name"] for condition in conditions] == [*IN_THREADS, "a learner beside"]
    assert conditions[-1]["not_measured"] == "not in this test"
    names = SUBJECTS - set(found["decisions"]["absent"])
    for condition in conditions[:-1]:
        assert {timing["name"] for timing in condition["timings"]} == names
        for timing in condition["timings"]:
            assert 10 <= timing["calls"] <= 200
            assert 0 < timing["p50_us"] <= timing["worst_us"]
            assert timing["p999_us"] is None
            assert timing["bare_run_ratio"] > 0
    assert [batch["states"] for batch in found["batches"]["batches"]] == list(batches.SIZES)
    memory = found["memory"]
    parts = memory["itp_mb"] + memory["partitioner_mb"] + memory["replay_mb"]
    assert memory["added_mb"] == pytest.approx(parts)
    assert memory["python_mb"] > 0
    assert memory["decisions"] >= 1000
    assert memory["engine"] == "native"
    assert len(found["startup"]["itp_ms"]) == 7
    assert set(found["replay"]["calls"]) == {replay.ADD, replay.CYCLE}
    assert found["simulator"]["random_per_s"] > 0
    assert found["simulator"]["experiences_share"] > 0
    assert "measuring decisions, 4 busy threads" in err
    assert not load_threads()


def test_tables_for_people(capsys, no_learner):
    code, out, _ = bench(capsys, "--seconds", 0.5, "--calls", 20, "--only", "decisions,batches")
    assert code == 0
    for words in (*IN_THREADS, *SUBJECTS, "bare/this", "4,096 states", "not in this test"):
        assert words in out
    assert "…" not in out
    assert "\x1b" not in out


def test_the_learner_trains_and_leaves_nothing(temporary):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'itp[train]'")
    with load.learner():
        (folder,) = temporary.glob("itp-bench-*")
        round_ = json.loads((folder / "rounds").read_text().splitlines()[0])
        assert round_["updates"] > 0
        assert any(name.is_dir() for name in folder.iterdir())


def test_a_learner_that_fails_is_told(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(load, "_LEARNER", ("--episodes", "-1"))
    with pytest.raises(load.NotMeasured, match="episodes"), load.learner():
        pytest.fail("not reached")


def test_peers_that_are_not_there_are_told(capsys, monkeypatch):
    for name in ("torch", "cpprb", "torchrl", "tianshou"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(replay, "STORED", 1000)
    args = ("--seconds", 0.5, "--calls", 20, "--only", "decisions,batches,replay")
    code, out, _ = bench(capsys, *args)
    assert code == 0
    for name in ("cpprb", "torchrl", "tianshou"):
        assert f"not measured: {name}: not installed" in out
    assert out.count(f"not measured: {decisions.TORCH}: torch is not installed") == 2
    assert "a learner beside: torch is not installed" in out


def test_a_pytorch_that_cannot_be_loaded_is_told(capsys, no_learner, monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = bench(capsys, "--seconds", 0.3, "--calls", 10, "--only", "decisions,batches")
    assert code == 0
    reason = "torch is installed, but fails: libtorch.so: cannot open shared object file"
    assert out.count(f"not measured: {decisions.TORCH}: {reason}") == 2


def test_a_peer_that_fails_is_told(monkeypatch):
    def broken(rows):
        raise RuntimeError("made for another NumPy")

    monkeypatch.setattr(replay, "STORED", 1000)
    monkeypatch.setitem(replay.LIBRARIES, "json", broken)
    found = replay.measure(seconds=0.1, calls=10)
    assert found.absent["json"] == "installed, but fails: made for another NumPy"
    assert found.timings[replay.ADD][0].name == "itp"


def test_a_model_the_compiled_pass_cannot_express(capsys, no_learner, tmp_path):
    onnx = pytest.importorskip("onnx")
    path = dense_chain(tmp_path / "net.onnx", layers=(20, 8, 15), metadata={"schema": 1})
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"
    onnx.save(model, path)
    args = ("--model", path, "--seconds", 0.5, "--calls", 10, "--only", "decisions,batches,memory", "--json")
    code, out, _ = bench(capsys, *args)
    found = json.loads(out)
    assert code == 0
    assert "Tanh" in found["decisions"]["absent"][decisions.NATIVE]
    assert found["memory"]["engine"] == "onnxruntime"


def test_the_twin_in_pytorch_computes_the_same():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'itp[train]'")
    model, states = load_model("dqn_v1"), random_states(16)
    (expected,) = model.session.run(["q_values"], {"state": states})
    np.testing.assert_allclose(torch_forward(layers_of(model), states)(), expected, rtol=1e-4, atol=1e-4)


# --- timing ---


def test_turns_interleave_and_end_in_time():
    order = []
    subjects = [Subject(name=name, call=lambda name=name: order.append(name)) for name in "ab"]
    a, b = interleave(subjects, seconds=10.0, calls=20, rounds=4)
    assert (a.calls, b.calls) == (20, 20)
    assert "".join(dict.fromkeys("".join(order[:12]))) == "ab"
    assert order[-1] == "b"
    assert sum(one != other for one, other in pairwise(order)) == 7
    (slow,) = interleave([Subject(name="slow", call=lambda: time.sleep(0.01))], seconds=0.0, calls=10**6)
    assert 10 <= slow.calls < 100


@pytest.mark.parametrize("calls", [1, 7, 25])
def test_no_more_calls_than_asked_for(calls):
    (few,) = interleave([Subject(name="x", call=lambda: None)], seconds=10.0, calls=calls)
    assert 0.8 * calls <= few.calls <= calls


def test_each_result_is_passed_on_once():
    results, passed = iter(range(10**6)), []
    subject = Subject(name="x", call=lambda: next(results), after=passed.append)
    interleave([subject], seconds=10.0, calls=50)
    assert passed == list(range(len(passed)))
    assert len(passed) >= 50


def test_percentiles_that_too_few_calls_cannot_tell():
    times_ns = np.arange(1, 1000, dtype=np.int64) * 1000
    few, enough = Timing("few", times_ns), Timing("enough", np.append(times_ns, 10**6))
    assert few.quantile_us(0.999) is None
    assert few.quantile_us(0.99) == pytest.approx(989.02)
    assert enough.quantile_us(0.999) is not None
    assert (enough.p50_us, enough.worst_us) == (500.5, 1000.0)


# --- load ---


def test_loads_do_what_they_say_and_stop(tmp_path):
    path = dense_chain(tmp_path / "net.onnx", metadata={"schema": 1, "version": "other"})
    with TaskPartitioner(model="dqn_v1") as partitioner:
        with load.metric_updates(lambda: partitioner) as pace:
            while pace.done < 100:
                time.sleep(0.001)
        with load.model_swaps(lambda: partitioner, [path]) as pace:
            while pace.done < 2:
                time.sleep(0.001)
        assert partitioner.metrics().model_version == "other"
    with load.busy_threads(3):
        assert len(load_threads()) == 3
    assert not load_threads()


def test_what_a_load_raises_is_raised():
    def step():
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"), load.in_background(step):
        pass


# --- the chart ---


@pytest.mark.parametrize("name", ["chart.png", "chart.svg"])
def test_a_chart(capsys, no_learner, tmp_path, name):
    args = ("--seconds", 0.5, "--calls", 20, "--only", "decisions", "--plot", tmp_path / name)
    code, _, err = bench(capsys, *args)
    content = (tmp_path / name).read_bytes()
    assert code == 0
    assert f"wrote {tmp_path / name}" in err
    if name.endswith(".svg"):
        for words in (*IN_THREADS, *(SUBJECTS - {decisions.TORCH})):
            assert words in content.decode()
    else:
        assert content.startswith(b"\x89PNG")


def test_a_chart_that_cannot_be_written_costs_no_figures(capsys, no_learner, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    args = ("--seconds", 0.2, "--calls", 5, "--only", "decisions", "--json", "--plot", tmp_path / "chart.svg")
    code, out, err = bench(capsys, *args)
    assert code == 1
    assert json.loads(out)["decisions"]["conditions"]
    assert f"itp bench: {tmp_path / 'chart.svg'}: No space left on device\n" in err
    assert not list(tmp_path.glob("*chart*"))


def test_a_chart_needs_its_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = bench(capsys, "--plot", tmp_path / "chart.png")
    assert code == 1
    assert "itp[report]" in err


# --- refusals and interruptions ---


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--calls", "0"], "--calls"),
        (["--only", "decision"], "did you mean decisions?"),
        (["--only", ""], "--only"),
        (["--model", "nothing"], "shipped model"),
        (["--plot", "chart.pdf"], ".png or .svg"),
        (["--plot", "no/such/folder/chart.png"], "folder that exists"),
        (["--only", "memory", "--plot", "chart.png"], "decisions"),
    ],
)
def test_refused(capsys, args, words):
    code, out, err = bench(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith("itp bench: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("decisions", "4 busy threads"),
        ("decisions", "model swaps"),
        ("decisions", "a learner beside"),
        ("memory", "memory"),
        ("startup", "start-up, 2"),
    ],
)
def test_ctrl_c_leaves_nothing(only, words, temporary):
    command = [*ITP, "bench", "--only", only, "--seconds", "8" if only == "decisions" else "600"]
    if words == "a learner beside":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'itp[train]'")
        command[-1] = "3"
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    descendants = []
    try:
        for line in process.stderr:  # one for each measurement
            if words in line:
                break
        time.sleep(0.3)
        descendants = children_of(process.pid)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "itp bench: interrupted"
    assert "Traceback" not in err
    assert not group_of(process.pid)
    assert not [pid for pid in descendants if Path(f"/proc/{pid}").exists()]
    if only == "memory" or words == "a learner beside":
        assert descendants


def test_shares_add_up():
    assert math.isclose(sum(suite.SHARES.values()), 1.0)
