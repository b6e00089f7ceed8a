"""The commands as odd users have them: missing extras, strange names, narrow terminals, files in the way."""

import json
import os
import subprocess
import sys

import pytest

from itp.cli import COMMANDS, main
from itp.cli.programs import PROGRAMS
from itp.evaluation import Report
from itp_overhead import dense_chain

TIMEOUT_S = 60
ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
SMALL = ["--scenario", "lossy", "--seeds", "2", "--tasks", "10", "--processes", "1"]


def itp(*args, **environment):
    return subprocess.run(
        [*ITP, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
    )


# --- extras ---


@pytest.fixture
def without(tmp_path):
    """A path of modules with which the named packages cannot be imported."""

    def hide(*packages):
        folder = tmp_path / "-".join(packages)
        folder.mkdir()
        for name in packages:
            error = f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
            (folder / f"{name}.py").write_text(error)
        return str(folder)

    return hide


def test_help_needs_no_extra_and_lists_every_command(without):
    done = itp("--help", PYTHONPATH=without("rich", "blake3", "xxhash", "matplotlib", "pyarrow"))
    assert done.returncode == 0
    for name in (*COMMANDS, *PROGRAMS):
        assert f"\n    {name}" in done.stdout


@pytest.mark.parametrize(
    ("command", "missing", "message"),
    [
        ("bench", "rich", "itp bench: the benchmark needs rich: pip install 'itp[cli]'\n"),
        ("simulate lossy", "rich", "itp simulate: the command needs rich: pip install 'itp[cli]'\n"),
        ("info", "rich", "itp info: the command needs rich: pip install 'itp[cli]'\n"),
        ("send a b:1", "rich", "itp send: the command needs rich: pip install 'itp[cli,transport]'\n"),
        ("recv .", "blake3", "itp recv: the command needs blake3: pip install 'itp[cli,transport]'\n"),
        ("demo", "xxhash", "itp demo: the command needs xxhash: pip install 'itp[cli,transport]'\n"),
    ],
)
def test_a_missing_extra_is_named(command, missing, message, without):
    done = itp(*command.split(), PYTHONPATH=without(missing))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


@pytest.mark.parametrize("command", ["info", "evaluate --help", "simulate --help", "bench --help"])
def test_commands_without_transfers_need_no_transport(command, without):
    done = itp(*command.split(), PYTHONPATH=without("blake3", "xxhash"))
    assert (done.returncode, done.stderr) == (0, "")


# --- names ---


@pytest.fixture
def strange(tmp_path):
    """Models whose names are markup, mathematics, control characters, no UTF-8, and long."""
    source = dense_chain(tmp_path / "model", layers=(20, 8, 15), metadata={"schema": 1})
    content = source.read_bytes()
    source.unlink()
    names = [
        b"a[red] :smile: [-].onnx",
        b"$\\frac{x$.onnx",
        b"bad\xff\x1b[31m.onnx",
        "日本語.onnx".encode(),
        b"x" * 200 + b".onnx",
        b"x" * 201 + b".onnx",
    ]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(content)
    (tmp_path / "[").mkdir()
    (tmp_path / "[" / "b].onnx").write_bytes(content)
    return [
        *(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)) for name in names),
        f"{tmp_path}/[/b].onnx",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_models_of_any_name(strange, tmp_path, encoding):
    files = ["--markdown", tmp_path / "r.md", "--html", tmp_path / "r.html", "--plots", tmp_path / "plots"]
    command = ["evaluate", "--policy", *strange, "pull", "oracle", *SMALL, *files]
    done = itp(*command, PYTHONIOENCODING=encoding, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for text in ("a[red] :smile: [-]", "$\\frac{x$", "bad??[31m", "b]"):
        assert text in done.stdout
        for path in ("r.md", "r.html"):
            assert text in (tmp_path / path).read_text("utf-8")
    assert "\x1b" not in done.stdout + done.stderr
    assert len(list((tmp_path / "plots").iterdir())) >= 8


def test_a_report_of_any_name_is_read_back(strange, capsys):
    assert main(["evaluate", "--policy", *strange, "pull", *SMALL, "--json"]) == 0
    text = capsys.readouterr().out
    assert Report.from_json(text).to_json() == text.strip()


@pytest.mark.parametrize("width", ["1", "20", "79", "1000", "none"])
def test_no_width_cuts_figures_off(width, strange, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    assert main(["evaluate", "--policy", *strange, "pull", "oracle", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "100 %" in out.replace("\N{NO-BREAK SPACE}", " ")
    assert main(["info"]) == 0
    assert main(["simulate", "lossy", "--episodes", "1", "--tasks", "3"]) == 0
    assert "decisions/s" in capsys.readouterr().out


# --- arguments ---


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["send", "", "h:1"], "expected a path"),
        (["recv", ""], "expected a path"),
        (["recv", ".", "--listen", "x" * 64 + ":1"], "--listen: expected a host's name"),
        (["send", "f", "a..b:1"], "expected a host's name"),
        (["simulate", ""], "SCENARIO"),
        (["simulate", "/"], "SCENARIO"),
        (["simulate", "lossy", "--metrics", ""], "expected a path"),
        (["simulate", "lossy", "--metrics", "x" * 300], "--metrics: "),
        (["evaluate", "--html", "x" * 300], "--html: "),
        (["evaluate", "--policy", ""], "--policy"),
        (["demo", "--rates", "nan"], "--rates must be"),
        (["demo", "--seconds", "nan"], "--seconds must be"),
    ],
)
def test_wrong_usage(command, reason, capsys):
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert "Traceback" not in err


def test_two_scenarios_of_one_name(tmp_path, capsys):
    world = 'name = "lossy"\n[[paths]]\nrate_mbit = 10\nrtt_ms = 5\n[workload]\nload = 0.5\n'
    (tmp_path / "world.toml").write_text(world)
    assert main(["evaluate", "--scenario", "lossy", str(tmp_path / "world.toml"), "--policy", "pull"]) == 2
    assert "the name lossy appears twice" in capsys.readouterr().err


# --- files in the way ---


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc, where files cannot be made")
def test_a_file_that_cannot_be_written_costs_neither_figures_nor_other_files(tmp_path, capsys):
    files = ["--html", "/proc/itp-report", "--markdown", str(tmp_path / "r.md")]
    assert main(["evaluate", "--policy", "pull", *SMALL, *files, "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["configuration"]["policies"] == ["pull"]
    assert "itp evaluate: /proc/itp-report: " in err
    assert "# Policies compared" in (tmp_path / "r.md").read_text()
    files = ["--metrics", "/proc/itp-metrics", "--experiences", str(tmp_path / "e.npz")]
    assert main(["simulate", "lossy", "--episodes", "1", "--tasks", "3", *files, "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["episodes"], report["metrics"]) == (1, None)
    assert report["experiences"] == str(tmp_path / "e.npz")
    assert "itp simulate: /proc/itp-metrics: " in err
    assert sorted(os.listdir(tmp_path)) == ["e.npz", "r.md"]


def test_devices_stay_devices(capsys):
    assert main(["evaluate", "--policy", "pull", *SMALL, "--markdown", "/dev/null"]) == 0
    assert main(["simulate", "lossy", "--episodes", "1", "--tasks", "3", "--metrics", "/dev/null"]) == 0
    assert not os.path.isfile("/dev/null")
    assert "Traceback" not in capsys.readouterr().err
