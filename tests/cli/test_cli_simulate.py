"""``itp simulate`` as a command."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from pyarrow import parquet

from itp import policies
from itp.cli import main
from itp.policies.episodes import mean_log_slowdown
from itp.schema import SOURCES
from itp.sim.simulator import Simulator
from itp_overhead import dense_chain

ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
TIMEOUT_S = 60


def itp(capsys, *args):
    code = main(["simulate", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def test_figures_are_those_of_the_simulator(capsys, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    code, out, _ = itp(
        capsys, "bursts", "--policy", "pull", "--episodes", 7, "--seed", 40, "--tasks", 50,
        "--service-order", "srpt", "--envs", 3, "--metrics", metrics, "--json",
    )  # fmt: skip
    report = json.loads(out)
    sim = Simulator("bursts", seeds=range(40, 47), tasks=50, service_order="srpt")
    outcomes = policies.run(sim, policies.make("pull"))
    assert code == 0
    assert (report["episodes"], report["interrupted"], report["first_seed"]) == (7, False, 40)
    assert report["figures"]["slowdown"] == pytest.approx(np.exp(mean_log_slowdown(outcomes)))
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["seed"] for line in lines] == list(range(40, 47))
    for env, line in enumerate(lines):
        mine = outcomes[outcomes["env"] == env]
        assert line["log_slowdown"] == pytest.approx(mean_log_slowdown(mine))
        assert line["reward"] == pytest.approx(mine["reward"].mean())
        assert (line["policy"], line["service_order"], line["tasks"]) == ("pull", "srpt", 50)


def test_any_number_of_streams(capsys):
    code, out, _ = itp(capsys, "bursty-arrivals", "--streams", 7, "--episodes", 2, "--tasks", 30, "--json")
    assert code == 0
    sim = Simulator("bursty-arrivals", 2, 1, n_streams=7, tasks=30)
    outcomes = policies.run(sim, policies.make("single_best"))
    assert json.loads(out)["figures"]["slowdown"] == pytest.approx(np.exp(mean_log_slowdown(outcomes)))


def test_a_table_for_people(capsys, tmp_path):
    code, out, err = itp(
        capsys, "lossy", "--episodes", 4, "--tasks", 30, "--epsilon", 0.25, "--load", 0.5,
        "--experiences", tmp_path / "e.npz",
    )  # fmt: skip
    assert code == 0
    for words in ("lossy, fifo, single best", "slowdown", "p95", "goodput", "explored"):
        assert words in out
    assert "120 experiences" in err
    assert "warning" not in err
    with np.load(tmp_path / "e.npz") as archive:
        assert archive["state"].shape == (120, 20)
        assert json.loads(str(archive["metadata"]))["epsilon"] == 0.25
    assert "\x1b" not in out + err


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_a_plain_rule_decides_by_default(capsys, order):
    options = ("heterogeneous", "--episodes", 1, "--tasks", 5, "--service-order", order, "--json")
    _, out, _ = itp(capsys, *options)
    assert json.loads(out)["policy"] == {"fifo": "single_best", "srpt": "least_completion_time"}[order]


def test_a_model_decides(capsys, tmp_path):
    guard = {"rule": "single_best", "threshold": 1.2}
    path = dense_chain(tmp_path / "net.onnx", layers=(20, 8, 15), metadata={"schema": 1, "guard": guard})
    options = ["flaky", "--episodes", 5, "--seed", 12, "--tasks", 20, "--envs", 2, "--policy"]
    code, out, _ = itp(capsys, *options, path, "--json")
    sim, policy = Simulator("flaky", seeds=range(12, 17), tasks=20), policies.make(str(path))
    policy.begin(sim)
    outcomes = policies.run(sim, policy)
    report = json.loads(out)
    assert (code, report["policy"]) == (0, "net")
    assert report["figures"]["slowdown"] == pytest.approx(np.exp(mean_log_slowdown(outcomes)))
    assert report["figures"]["guarded"] == pytest.approx(
        (outcomes["source"] == SOURCES.index("guard")).mean()
    )
    assert "decided by the guard" in itp(capsys, *options, path)[1]
    assert json.loads(itp(capsys, *options, f"{path}:no-guard", "--json")[1])["figures"]["guarded"] is None
    assert itp(capsys, *options, tmp_path / "none.onnx")[::2] == (
        2,
        f"itp simulate: --policy {tmp_path / 'none.onnx'}: no such file\n",
    )


def columns(path):
    """As arrays, by name."""
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return {name: archive[name] for name in archive if name != "metadata"}
    table = parquet.read_table(path)
    arrays = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("state", "next_state"):
            arrays[name] = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
        else:
            arrays[name] = column.to_numpy(zero_copy_only=False)
    return arrays


def test_files_hold_the_simulators_experiences(capsys, tmp_path):
    options = ("flaky", "--episodes", 5, "--seed", 12, "--tasks", 20, "--policy", "score")
    for suffix in ("npz", "parquet"):
        assert itp(capsys, *options, "--experiences", tmp_path / f"e.{suffix}")[0] == 0
    archive, table = columns(tmp_path / "e.npz"), columns(tmp_path / "e.parquet")
    sim = Simulator("flaky", seeds=range(12, 17), tasks=20, keep_states=True)
    parts = []
    while not sim.done.all():
        sim.step_masks(*sim.choose("score"))
        parts.append(sim.experiences())
    expected = np.concatenate(parts)
    assert tuple(archive) == tuple(table) == expected.dtype.names
    for name in archive:
        text = archive[name].dtype.kind == "S"
        assert np.array_equal(archive[name], expected[name]), name
        assert np.array_equal(archive[name].astype("U") if text else archive[name], table[name]), name
    # Joined by episode and number, each next state is the state of the task that follows.
    worlds = np.array([int(task.split(b"/")[0]) for task in archive["task_id"]])
    order = np.lexsort((archive["number"], worlds))
    states = archive["state"][order].reshape(5, 20, -1)
    assert np.array_equal(archive["next_state"][order].reshape(5, 20, -1)[:, :-1], states[:, 1:])
    assert archive["done"][order].reshape(5, 20).tolist() == [[False] * 19 + [True]] * 5


def test_files_do_not_depend_on_how_episodes_are_run(capsys, tmp_path):
    options = ("mixed", "--episodes", 9, "--tasks", 25, "--epsilon", 0.2, "--policy", "proportional")
    kept = []
    for k, how in enumerate(((), ("--envs", 1), ("--envs", 4, "--threads", 2), ("--threads", 3))):
        metrics, file = tmp_path / f"{k}.jsonl", tmp_path / f"{k}.npz"
        assert itp(capsys, *options, *how, "--metrics", metrics, "--experiences", file)[0] == 0
        rows = columns(file)
        order = np.lexsort((rows["number"], rows["task_id"]))
        kept.append((metrics.read_text(), {name: column[order].tobytes() for name, column in rows.items()}))
    assert all(other == kept[0] for other in kept)
    first = json.loads(kept[0][0].splitlines()[0])
    assert first["slowdown"] == pytest.approx(np.exp(first["log_slowdown"]))


def test_a_load_over_one_is_warned_of(capsys):
    code, out, err = itp(capsys, "mixed", "--load", 1.5, "--episodes", 1, "--tasks", 5, "--json")
    assert code == 0
    assert json.loads(out)["load"] == 1.5
    assert err.count("warning: mixed: workload.load up to 1.5") == err.count("queues grow without bound") == 1


def test_more_environments_than_memory_holds(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("itp.sim.arguments._ENV_BYTES", 2**60)
    code, out, err = itp(capsys, "mixed", "--envs", 8, "--experiences", tmp_path / "e.npz")
    assert (code, out) == (2, "")
    assert "--envs 8: " in err
    assert "simulate fewer environments at a time" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("heterogenous",), "did you mean heterogeneous?"),
        (("mixed", "--policy", "least_completion"), "did you mean least_completion_time?"),
        (("mixed", "--episodes", 0), "--episodes must be from 1"),
        (("mixed", "--epsilon", 1.5), "--epsilon must be from 0 to 1"),
        (("mixed", "--epsilon", "nan"), "--epsilon must be from 0 to 1"),
        (("mixed", "--load", 0), "--load must be more than 0"),
        (("mixed", "--threads", 0), "--threads"),
        (("mixed", "--streams", 0), "--streams must be from 1 to 16"),
        (("mixed", "--experiences", "x.csv"), "--experiences must end in .npz or .parquet"),
        (("mixed", "--experiences", "nowhere/x.npz"), "a folder that exists"),
        (("mixed", "--metrics", "."), "--metrics must be a file"),
    ],
)
def test_wrong_usage(capsys, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = itp(capsys, *args)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_wrong_scenario_leaves_nothing(capsys, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("name = 'wrong'\n[[paths]]\nrate_mbit = -1\nrtt_ms = 10\n")
    code, _, err = itp(capsys, wrong, "--experiences", tmp_path / "e.npz")
    assert code == 1
    assert "rate_mbit" in err
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.toml"]


def started(folder, *args):
    return subprocess.Popen(
        [*ITP, "simulate", *map(str, args)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_files(folder):
    """Until the columns of the hidden file are there, and some have grown."""
    until_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until_s:
        if any(path.stat().st_size > 0 for path in folder.glob(".*/state")):
            return
        time.sleep(0.01)
    raise AssertionError("nothing was written")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_the_episodes_that_are_over(tmp_path, number):
    files = ("--experiences", "e.npz", "--metrics", "m.jsonl")
    process = started(tmp_path, "mixed", "--episodes", 1_000_000, "--tasks", 20, "--json", *files)
    wait_for_files(tmp_path)
    os.kill(process.pid, number)
    os.kill(process.pid, number)  # impatience changes nothing
    out, err = process.communicate(timeout=TIMEOUT_S)
    report = json.loads(out)
    episodes = int(re.search(r"interrupted after (\d+) of 1000000 episodes", err).group(1))
    assert process.returncode == 130
    assert "Traceback" not in err
    assert report["interrupted"]
    assert report["episodes"] == episodes > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.npz", "m.jsonl"]
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == episodes
    with np.load(tmp_path / "e.npz") as archive:
        assert {len(archive[name]) for name in archive if name != "metadata"} == {20 * episodes}
        assert archive["done"].sum() == episodes


def test_an_interrupt_before_anything_is_over_leaves_nothing(tmp_path):
    # One episode of as many tasks as there may be.
    process = started(tmp_path, "mixed", "--episodes", 1, "--tasks", 1_000_000, "--experiences", "e.npz")
    until_s = time.monotonic() + TIMEOUT_S
    while not list(tmp_path.iterdir()) and time.monotonic() < until_s:
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "interrupted after 0 of 1 episodes" in err
    assert not list(tmp_path.iterdir())
