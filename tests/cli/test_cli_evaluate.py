"""`itp evaluate` as a real process, and in this one."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from itp.cli import main
from itp.evaluation.report import Report
from itp.policies.base import TEST_SEED
from itp.policies.names import NAMES
from itp.sim.scenario import FAMILIES, WORKLOADS
from itp_overhead import dense_chain
from processes import group_of
from transport_peers import eventually

ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
SMALL = ["--policy", "pull", "--policy", "single_best", "--policy", "oracle", "--seeds", "2", "--tasks", "10"]
ONE = [*SMALL, "--scenario", "lossy", "--processes", "1"]


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def itp(*args):
    return subprocess.run([*ITP, *map(str, args)], capture_output=True, text=True, timeout=60)


def test_tables_and_summary_fit_80_columns(capsys):
    assert main(["evaluate", *ONE]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in (
        "lossy, fifo",
        "lossy, srpt",
        "oracle",
        "single best",
        "the best classical rule in lossy is",
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "Traceback" not in out


def test_details_of_all_policies_fit_80_columns(capsys):
    assert main(["evaluate", "--scenario", "lossy", "--seeds", "2", "--tasks", "10", "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "average over scenarios" not in out


def test_json_and_files(tmp_path, capsys):
    files = [tmp_path / "report.html", tmp_path / "report.md", tmp_path / "charts"]
    options = ["--html", files[0], "--markdown", files[1], "--plots", files[2], "--json"]
    assert main(["evaluate", *map(str, [*ONE, *options, "--service-order", "srpt"])]) == 0
    out, err = capsys.readouterr()
    report = Report.from_json(out)
    assert report.configuration.service_orders == ("srpt",)
    assert report.configuration.seeds == (TEST_SEED, TEST_SEED + 1)
    assert "</html>" in files[0].read_text()
    assert files[1].read_text() == report.to_markdown()
    assert len(list(files[2].iterdir())) >= 4
    assert err.count("wrote") == 3


def test_command_in_the_report_repeats_it(tmp_path, capsys):
    world = tmp_path / "my world.toml"
    world.write_text('name = "mine"\n[[paths]]\nrate_mbit = 10\nrtt_ms = 5\n[workload]\nload = 0.5\n')
    first = ["evaluate", *SMALL, "--scenario", str(world), "--scenario", "flaky", "--load", "0.3", "--json"]
    assert main([*first, "--reference", "pull", "--first-seed", str(TEST_SEED + 5)]) == 0
    report = json.loads(capsys.readouterr().out)
    command = shlex.split(report["configuration"]["command"])
    assert report["configuration"]["scenarios"] == ["mine", "flaky"]
    assert command[0] == "itp"
    assert main([*command[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    for content in (report, again):
        content["configuration"].pop("duration_s")
    assert again == report


def test_groups_of_scenarios_and_numbers_of_streams(capsys):
    small = ["evaluate", "--policy", "single_best", "--policy", "round_robin", "--seeds", "1", "--tasks", "5"]
    options = [*small, "--scenario", "workloads", "--streams", "2", "--service-order", "fifo", "--json"]
    assert main(options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["configuration"]["scenarios"] == list(WORKLOADS)
    command = report["configuration"]["command"]
    assert command.count("--scenario") == len(WORKLOADS)
    assert command.endswith("--streams 2")
    assert main([*options, "--scenario", "overload"]) == 2
    assert "overload appears twice" in capsys.readouterr().err
    assert main([*small, "--scenario", "lossy", "--streams", "2"]) == 1
    assert "n_streams = 2: expected 4" in capsys.readouterr().err
    assert main([*small, "--scenario", "overload", "--streams", "17"]) == 2
    assert "--streams must be from 1 to 16" in capsys.readouterr().err


def test_models_stand_beside_rules(tmp_path, capsys):
    guard = {"rule": "single_best", "threshold": 1.2}
    path = dense_chain(tmp_path / "net.onnx", layers=(20, 8, 15), metadata={"schema": 1, "guard": guard})
    for k in range(2):
        (tmp_path / f"seed{k}").mkdir()
        dense_chain(tmp_path / f"seed{k}" / "model.onnx", layers=(20, 8, 15), seed=k, metadata={"schema": 1})
    command = ["evaluate", *ONE, "--policy", str(path), f"{path}:no-guard", "--rate-scale", "4"]
    command += ["--replicas", str(tmp_path / "seed*" / "model.onnx")]
    assert main(command) == 0
    out = capsys.readouterr().out
    for text in ("net", "net:no-guard", "seed0/model", "over 2 training seeds", "the guard of net makes"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    repeated = shlex.split(report["configuration"]["command"])
    assert main([*repeated[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    for content in (report, again):
        content["configuration"].pop("duration_s")
    assert again == report
    assert again["configuration"]["rate_scale"] == 4.0
    assert again["configuration"]["replicas"] == ["seed0/model", "seed1/model"]


def test_rules_take_the_suffix_of_hard_deadlines(capsys):
    command = [
        "evaluate",
        "--scenario",
        "lossy",
        "--seeds",
        "2",
        "--tasks",
        "10",
        "--processes",
        "1",
        "--json",
    ]
    assert main([*command, "--policy", "single_best", "single_best:hard-deadlines"]) == 0
    names = json.loads(capsys.readouterr().out)["configuration"]["policies"]
    assert names == ["single_best", "single_best:hard-deadlines"]
    assert main([*command, "--policy", "pull:soft-deadlines"]) == 2
    assert main(["simulate", "lossy", "--episodes", "1", "--policy", "single_best:hard-deadlines"]) == 0


def test_trace_goes_to_the_scenarios_that_name_one(tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("t,mbit\n0,20\n1,5\n2,40\n")
    options = [*SMALL, "--processes", "1", "--service-order", "fifo", "--json", "--trace", str(trace)]
    assert main(["evaluate", *options, "--scenario", "lossy", "--scenario", "trace-driven"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert str(trace) in report["configuration"]["command"]
    assert main(["evaluate", *options, "--scenario", "lossy"]) == 2
    assert "--trace" in capsys.readouterr().err
    trace.write_text("t,mbit\nno,number\n")
    assert main(["evaluate", *options, "--scenario", "trace-driven"]) == 1
    assert str(trace) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--policy", "orcle"], "did you mean oracle?"),
        (["--policy", "xyz"], f"there are {', '.join(NAMES)}"),
        (["--policy", "pull", "--policy", "pull"], "appears twice"),
        (["--scenario", "lossi"], "did you mean lossy?"),
        (["--scenario", "no-such.toml"], f"there are {', '.join((*FAMILIES, *WORKLOADS))}"),
        (["--scenario", "lossy", "--scenario", "lossy"], "appears twice"),
        (["--reference", "pul"], "did you mean pull?"),
        (["--policy", "pull", "--reference", "score"], "there are pull"),
        (["--seeds", "0"], "--seeds must be from 1"),
        (["--first-seed", "3"], f"--first-seed must be from {TEST_SEED}"),
        (["--tasks", "0"], "--tasks must be from 1"),
        (["--processes", "0"], "--processes must be from 1"),
        (["--rate-scale", "0"], "--rate-scale must be more than 0"),
        (["--policy", "none.onnx"], "--policy none.onnx: no such file"),
        (["--policy", "none.onnx:no-guard"], "no such file"),
        (["--policy", "pull:no-guard"], "--policy pull:no-guard: there are"),
        (["--replicas", "/no/such/*.onnx"], "--replicas /no/such/*.onnx: no such file"),
        (["--replicas", "/dev/nul*"], "--replicas /dev/null: expected .onnx files"),
        (["--load", "nan"], "--load must be more than 0"),
        (["--html", "/no/such/folder/report.html"], "--html must be a file"),
        (["--markdown", "/"], "--markdown must be a file"),
        (["--plots", "/dev/null"], "--plots must be a folder"),
    ],
)
def test_wrong_usage(arguments, text, capsys):
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1


def test_wrong_file_is_no_traceback(tmp_path, capsys):
    world = tmp_path / "world.toml"
    world.write_text("[[paths]]\nrate_mbit = -1\n")
    assert main(["evaluate", *SMALL, "--scenario", str(world)]) == 1
    err = capsys.readouterr().err
    assert "rate_mbit" in err
    assert "Traceback" not in err


def test_ctrl_c_ends_it_and_its_processes():
    arguments = [
        "evaluate",
        "--policy",
        "oracle",
        "--scenario",
        "mixed",
        "--seeds",
        "2000",
        "--processes",
        "2",
    ]
    process = subprocess.Popen(
        [*ITP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        # The command, the tracker of its resources, and two workers, which may not be ready yet.
        while len(group_of(process.pid)) < 4 and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (out, err) == ("", "itp evaluate: interrupted\n")
    eventually(lambda: not group_of(process.pid), "the processes end")


def test_help_names_every_option():
    done = itp("evaluate", "--help")
    assert done.returncode == 0
    options = "--policy --scenario --seeds --service-order --html --trace --regions --replicas --rate-scale"
    for option in (*options.split(), ":no-guard"):
        assert option in done.stdout
