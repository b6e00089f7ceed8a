"""``bench/check.py``: verdicts, output and exit codes, and each check with next to no time to measure in."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from figures import baseline, cli, core, slow_disk, updates
from figures.figure import Figure, all_hold, at_least, at_most, number
from itp.errors import ModelError
from itp_overhead import startup
from itp_overhead.child import run_python
from itp_overhead.load import NotMeasured
from processes import children_of, group_of

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    """A folder for temporary files, in which none of ours may be in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.glob("itp-bench-*"))


def figure(value=1.0, **fields):
    return Figure(**{"name": "speed", "about": "how fast", "value": value, "unit": "x", **fields})


def check_of(*figures):
    return lambda *, quick, progress: progress("it") or [replace(f, rough=quick) for f in figures]


def run(capsys, *args):
    code = cli.main([*map(str, args)])
    return code, *capsys.readouterr()


OTHER_ITP = """
class Task:
    def __init__(self, id, size_bytes, priority):
        pass

class TaskPartitioner:
    def __init__(self, model, engine):
        assert engine == "native"
    def update_stream(self, stream, *, bandwidth_mbps, latency_ms, success_rate):
        pass
    def partition_task(self, task):
        return self
    def report_outcome(self, decision, throughput_mbps, latency_s, success):
        assert decision is self
"""


def wheel(folder, text):
    path = folder / "itp-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("itp/__init__.py", text)
    return path


# --- verdicts ---


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (at_most(2.0), 1.9, True),
        (at_most(2.0), 2.0, True),
        (at_most(2.0), 2.1, False),
        (at_least(2.0), 2.1, True),
        (at_least(2.0), 2.0, True),
        (at_least(2.0), 1.9, False),
        (at_most(2.0), math.nan, False),
        (at_least(2.0), math.nan, False),
        (at_least(2.0), math.inf, True),
        (None, 1.0, None),
        (at_most(2.0), None, None),
    ],
)
def test_verdict(bound, value, holds):
    assert figure(value, asked=bound).holds is holds


@pytest.mark.parametrize(
    ("low", "high", "holds"), [(1.9, 2.5, True), (2.05, 2.5, False), (None, None, False), (2.05, 1.9, True)]
)
def test_a_rough_figure_breaks_its_bound_with_its_whole_interval(low, high, holds):
    asked = at_most(2.0)
    assert figure(2.1, asked=asked, low=low, high=high, rough=True).holds is holds
    assert figure(2.1, asked=asked, low=low, high=high).holds is False
    assert figure(1.9, asked=asked, low=1.8, high=2.5, rough=True).holds is True


def test_what_was_not_measured_does_not_hold_and_what_is_not_asked_does_not_matter():
    assert all_hold([figure(), figure(1.0, asked=at_most(1.0))])
    assert not all_hold([figure(None, asked=at_most(1.0))])
    assert all_hold([figure(None)])
    assert not all_hold([figure(1.0, asked=at_most(1.0)), figure(1.1, asked=at_most(1.0))])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.21934, "0.219"),
        (1.0, "1"),
        (99.96, "100"),
        (1234567.8, "1,234,568"),
        (-2.5, "-2.5"),
        (math.nan, "nan"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


# --- the command ---


def test_json(capsys, monkeypatch):
    one = figure(0.5, asked=at_most(1.0), low=0.4, high=0.6, note="by hand")
    two = figure(math.nan, name="other", unit="us", asked=at_least(3.0))
    monkeypatch.setattr(cli, "CHECKS", {"core": check_of(one), "policy": check_of(two, figure())})
    code, out, err = run(capsys, "--json")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert code == 1
    assert set(found) == {"command", "date", "quick", "machine", "versions", "hold", "checks"}
    assert found["command"] == "bench/check.py --json"
    assert (found["quick"], found["hold"]) == (False, False)
    assert found["machine"]["cpus"] >= 1
    assert found["versions"]["numpy"] == np.__version__
    assert [(check["name"], check["hold"]) for check in found["checks"]] == [
        ("core", True),
        ("policy", False),
    ]
    assert found["checks"][0]["figures"] == [
        {
            "name": "speed",
            "about": "how fast",
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "rough": False,
            "unit": "x",
            "asked": {"direction": "at most", "value": 1.0},
            "holds": True,
            "note": "by hand",
        }
    ]
    other, plain = found["checks"][1]["figures"]
    assert (other["value"], other["holds"]) == (None, False)
    assert (plain["asked"], plain["holds"]) == (None, None)
    assert err.splitlines() == ["measuring it", "measuring it"]


def test_the_table(capsys, monkeypatch):
    figures = (
        figure(0.5, asked=at_most(1.0), low=0.4, high=0.6, note="[by] hand"),
        figure(2.0, about="how slow", unit="us", asked=at_most(1.0)),
        figure(None, about="how far", asked=at_most(1.0), note="no road"),
        figure(7.0, about="how odd"),
    )
    monkeypatch.setattr(cli, "CHECKS", {"core": check_of(*figures)})
    code, out, _ = run(capsys, "core")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 1
    assert "how fast 0.5x 0.4 to 0.6 at most 1 holds" in lines
    assert "[by] hand" in lines
    assert "how slow 2 us at most 1 does not hold" in lines
    assert "how far - at most 1 not measured" in lines
    assert "how odd 7x" in lines
    assert "core: 1 of 3 hold, 1 do not, 1 not measured; 0 s" in lines
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("args", "made"),
    [
        ([], "core policy"),
        (["--all"], "core policy"),
        (["policy"], "policy"),
        (["policy", "core"], "core policy"),
        (["core", "--quick"], "core"),
    ],
)
def test_which_checks_are_made(capsys, monkeypatch, args, made):
    holds, rough = figure(1.0, asked=at_most(1.0)), figure(1.1, asked=at_most(1.0), low=0.9, high=1.2)
    core_check = check_of(rough if "--quick" in args else holds)
    monkeypatch.setattr(cli, "CHECKS", {"core": core_check, "policy": check_of(holds)})
    code, out, _ = run(capsys, *args, "--json")
    assert code == 0
    assert " ".join(check["name"] for check in json.loads(out)["checks"]) == made


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cores"], "did you mean core?"),
        (["core", "--all"], "--all"),
        (["--baseline", "x.whl"], "one name, core or policy"),
        (["core", "policy", "--baseline", "x.whl"], "one name, core or policy"),
        (["core", "--baseline", "no/such.whl"], "expected a wheel"),
        (["core", "--baseline", __file__], "expected a wheel"),
        (["core", "--baseline", str(ROOT)], "expected a wheel or a virtual environment"),
    ],
)
def test_refused(capsys, args, words):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("bench/check.py: ")
    assert words in err


def test_a_check_that_fails_or_is_interrupted(capsys, monkeypatch):
    def fails(*, quick, progress):
        raise ModelError("no such model")

    def interrupted(*, quick, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "CHECKS", {"core": fails, "policy": interrupted})
    assert run(capsys, "core") == (1, "", "bench/check.py: no such model\n")
    assert run(capsys, "policy") == (130, "", "bench/check.py: interrupted\n")


def test_the_program_itself():
    command = [sys.executable, str(ROOT / "bench" / "check.py")]
    done = subprocess.run(
        [*command, "nothing"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "there are core, policy" in done.stderr
    done = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0
    assert "--baseline" in done.stdout


@pytest.mark.parametrize(
    ("check", "words"),
    [("core", "start-up, 2"), ("core", "memory"), ("policy", "0 % done"), ("baseline", "pair 1 of")],
)
def test_ctrl_c_leaves_nothing(check, words, tmp_path):
    args = ["core", "--baseline", wheel(tmp_path, OTHER_ITP)] if check == "baseline" else [check]
    process = subprocess.Popen(
        [sys.executable, ROOT / "bench" / "check.py", "--json", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
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
    assert err.splitlines()[-1] == "bench/check.py: interrupted"
    assert "Traceback" not in err
    # What multiprocessing keeps beside its workers ends when it notices that this process is gone.
    end_s = time.monotonic() + TIMEOUT_S
    while group_of(process.pid) or any(map(is_running, descendants)):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- core ---


def test_core(monkeypatch):
    for name in ("_DECISIONS_S", "_BATCHES_S", "_MEMORY_S", "_REPLAY_S", "_SIMULATOR_S"):
        monkeypatch.setattr(core, name, (math.nan, 0.1))
    monkeypatch.setattr(core, "STORED", 1000)
    monkeypatch.setattr(startup, "RUNS", 1)

    def not_here(*_args, **_options):
        raise NotMeasured("not in this test")

    monkeypatch.setattr(slow_disk, "measure", not_here)
    monkeypatch.setattr(updates, "measure", not_here)
    begun = []
    figures = {figure.name: figure for figure in core.measure(quick=True, progress=begun.append)}
    assert {name for name, figure in figures.items() if figure.note == "not in this test"} == {
        "report_p99_slow_disk",
        "update_32_speed_up",
        "update_256_speed_up",
    }
    assert figures["report_p99_slow_disk"].holds is None
    measured = (
        "decision_p50",
        "decision_per_bare_run",
        "forward_pass",
        "batch_states",
        "memory",
        "import_total",
    )
    for name in (*measured, "simulated_decisions", "experiences_per_step"):
        assert figures[name].value > 0.0
    assert figures["import_total"].value > figures["import_on_numpy"].value
    assert figures["decision_per_bare_run"].asked == at_most(0.35)
    assert "decisions, 4 busy threads" in begun
    assert "decisions, model swaps" not in begun


def test_core_without_its_peers(monkeypatch):
    monkeypatch.setitem(sys.modules, "cpprb", None)
    monkeypatch.setattr(core, "STORED", 1000)
    add, cycle = core._replay(0.1, lambda _: None)
    assert (add.value, cycle.value) == (None, None)
    assert add.note == "cpprb: not installed"
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    _, update = core._updates(0.1, lambda _: None)
    assert (update.value, update.holds) == (None, None)
    assert update.note.endswith("is not installed")


def test_what_is_asked_of_avx512_alone():
    class Net:
        kernel = "avx2"

    class Model:
        net = Net()

    assert core._where_avx512(Model(), at_most(1.3)) == (None, "asked of processors with AVX-512 alone")
    Net.kernel = "avx512"
    assert core._where_avx512(Model(), at_most(1.3)) == (at_most(1.3), "")


def test_updates_beside_stable_baselines3(monkeypatch):
    for name in ("torch", "stable_baselines3"):
        pytest.importorskip(
            name, reason=f"{name} is not installed: pip install 'itp[train]' stable-baselines3"
        )
    monkeypatch.setattr(updates, "_STORED", 64)
    times_us = updates.measure((32,), seconds=0.05)
    assert set(times_us[32]) == {"itp", "stable_baselines3"}
    assert min(times_us[32].values()) > 0.0


# --- the disk that blocks ---

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="a blocking disk needs Linux and a C compiler",
)

WRITER = """
import ctypes, os, sys
disk = ctypes.CDLL(None)
inside, outside = sys.argv[1:]
def write(folder):
    with open(f"{folder}/file", "wb", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())
os.mkdir(inside)
write(inside)
disk.slow_disk_arm(inside.encode())
os.mkdir(outside)
write(outside)
before = disk.slow_disk_blocked()
write(inside)
disk.slow_disk_arm(None)
write(inside)
print(before, disk.slow_disk_blocked())
"""


@needs_compiler
def test_the_disk_blocks_below_its_folder_alone(tmp_path, monkeypatch):
    library = slow_disk.compile_disk(tmp_path / "disk.so")
    folders = (str(tmp_path / "log"), str(tmp_path / "log-beside"))
    out = run_python(WRITER, *folders, env=slow_disk.preloading(library))
    assert out.split() == ["0", "3"]


@needs_compiler
def test_reports_beside_a_disk_that_blocks(monkeypatch):
    monkeypatch.setattr(slow_disk, "REPORTS_PER_S", 400.0)
    found = slow_disk.measure(seconds=1.5)
    assert found.blocked >= 1
    assert found.reports.calls >= 1
    assert found.reports.p50_us > 0.0


def test_calls_that_had_to_wait_count_as_slow():
    times_ns = np.array([5, 35, 10, 11])
    found = slow_disk.with_those_that_waited(times_ns, 10)
    assert sorted(found) == [1, 5, 5, 10, 11, 15, 25, 35]


@needs_compiler
def test_a_log_that_does_not_write_is_not_measured(monkeypatch, tmp_path):
    reporter = tmp_path / "reporter.py"
    reporter.write_text("""print('{"taken_ns": [1000], "blocked": 0}')""")
    monkeypatch.setattr(slow_disk, "_REPORTER", reporter)
    with pytest.raises(NotMeasured, match="did not use its disk"):
        slow_disk.measure(seconds=0.01)


def test_no_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NotMeasured, match="no-such-compiler" if sys.platform == "linux" else "Linux"):
        slow_disk.measure(seconds=0.01)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NotMeasured, match="does not compile" if sys.platform == "linux" else "Linux"):
        slow_disk.measure(seconds=0.01)


# --- a baseline ---


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(baseline, "QUICK_PAIRS", 2)
    monkeypatch.setattr(baseline, "QUICK_TURNS", 2)
    monkeypatch.setattr(baseline, "TURN_S", 0.01)
    monkeypatch.setattr(baseline, "SUBJECTS", ("decision", "buffer_cycle"))


def test_against_a_wheel(capsys, hurried, tmp_path, monkeypatch):
    path = wheel(tmp_path, OTHER_ITP)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "core", "--quick", "--json", "--baseline", path.name)
    (check,) = json.loads(out)["checks"]
    ratio, missing = check["figures"]
    # Which is the faster one this test does not ask.
    assert code == 1
    assert (ratio["name"], ratio["unit"], ratio["rough"]) == ("decision_ratio", "x", True)
    assert 0.0 < ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["asked"] == {"direction": "at most", "value": 1.05}
    assert "2 pairs" in ratio["note"]
    assert (missing["name"], missing["value"]) == ("buffer_cycle_ratio", None)
    assert missing["note"].startswith("baseline: AttributeError")
    assert err.splitlines()[0] == "measuring pair 1 of 2, decision"


def test_a_wheel_that_does_not_run_here(capsys, hurried, tmp_path):
    path = wheel(tmp_path, "import itp._made_for_another_python")
    code, _, err = run(capsys, "core", "--quick", "--baseline", path)
    assert code == 2
    assert "does not run (is it for Python" in err
    assert "_made_for_another_python" in err


def test_the_environment_that_runs_here_is_no_baseline(capsys, hurried):
    code, _, err = run(capsys, "core", "--quick", "--baseline", sys.prefix)
    assert code == 2
    assert "runs here too" in err


def test_an_environment_with_a_wheel_has_the_other_packages(tmp_path):
    with baseline.environment(wheel(tmp_path, "WHICH = 'other'")) as python:
        code = "import itp, numpy, sys; print(itp.WHICH, numpy.__version__)"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["other", np.__version__]
