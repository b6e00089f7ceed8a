"""The trainer as a command: runs, what they leave, and how they go on after whatever stops them."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")
for package in ("onnx", "matplotlib", "rich"):
    pytest.importorskip(package, reason=f"the trainer needs {package}: pip install 'itp[train]'")

from rich.console import Console  # noqa: E402 (after the check for PyTorch)

from itp.evaluation.report import Report  # noqa: E402
from itp.models.load import load_model  # noqa: E402
from itp_training import checkpoint, course, evaluation  # noqa: E402
from itp_training.cli import main  # noqa: E402
from itp_training.collect import Collector  # noqa: E402
from itp_training.config import preset  # noqa: E402
from itp_training.curves import curves  # noqa: E402
from itp_training.display import Panel  # noqa: E402
from itp_training.progress import Moment  # noqa: E402
from itp_training.run_files import RunFiles  # noqa: E402
from itp_training.trainer import Round  # noqa: E402

# TensorBoard's and matplotlib's own.
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")

SCRIPT = Path(__file__).parents[2] / "training" / "train_dqn.py"
ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
TINY = [
    *("--set", "tasks=20"),
    *("--set", "envs=4"),
    *("--set", "updates=20"),
    *("--set", "batch_size=16"),
    *("--set", "teacher_episodes=4"),
]
# Long enough to be stopped on its way.
BROKEN = ["--episodes", "40", *TINY, "--set", "updates=4000", "--save-freq", "8", "--name", "net"]
TIMEOUT_S = 120
TIMES = ("collect_s", "learn_s")


def train(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*ITP, "train", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, **options)


def start(folder: Path) -> subprocess.Popen[str]:
    """A run that is under way: its first round is over."""
    process = subprocess.Popen(
        [*ITP, "train", *BROKEN, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_rounds(process, folder, 1)
    return process


def wait_for_rounds(process: subprocess.Popen[str], folder: Path, rounds: int) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or len(lines(metrics)) < rounds):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def rounds_of(folder: Path) -> list[dict[str, float]]:
    """Of metrics.jsonl, without what a clock says."""
    found = [json.loads(line) for line in lines(folder / "metrics.jsonl")]
    return [{k: v for k, v in done.items() if k not in TIMES} for done in found]


def assert_same_end(folder: Path, other: Path) -> None:
    """Bit for bit the same networks, optimizer and rounds."""
    mine, theirs = (checkpoint.load(run / "checkpoint.pt") for run in (folder, other))
    assert mine["network"]
    for part in ("network", "target", "optimizer"):
        for name, value in theirs[part].items():
            assert torch.equal(torch.as_tensor(mine[part][name]), torch.as_tensor(value)), (part, name)
    assert mine["replay"]
    for name, value in theirs["replay"].items():
        assert torch.equal(torch.nan_to_num(mine["replay"][name]), torch.nan_to_num(value)), name
    assert rounds_of(folder) == rounds_of(other)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that went through."""
    cwd = tmp_path_factory.mktemp("finished")
    command = [
        sys.executable,
        str(SCRIPT),
        "--episodes",
        "8",
        "--batch-size",
        "16",
        "--save-freq",
        "4",
        *TINY,
    ]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[:2]] == ["episode 4", "episode 8"]
    assert "--evaluate" in done.stdout
    return cwd / "runs" / "fifo-seed0"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The longer run without any break."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    done = train(*BROKEN, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


# --- a run and its files ---


def test_a_run_leaves_its_files(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "dqn.onnx",
        "dqn.json",
        "curves.png",
        "tensorboard",
    }
    assert [done["episodes"] for done in rounds_of(finished)] == [4, 8]
    config = json.loads((finished / "config.json").read_text())
    assert (config["episodes"], config["batch_size"], config["tasks"]) == (8, 16, 20)
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    metadata = load_model(finished / "dqn.onnx").metadata
    assert metadata["training"]["config"] == config
    assert metadata["calibration"]["time_ratio"]


def test_the_same_in_itp_train_and_in_the_module(finished: Path, tmp_path: Path) -> None:
    args = ["--episodes", "8", "--save-freq", "4", *TINY]
    command = [sys.executable, "-m", "itp_training", *args, "--out", str(tmp_path / "module")]
    subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
    assert train(*args, "--out", tmp_path / "itp").returncode == 0
    assert_same_end(tmp_path / "module", finished)
    assert_same_end(tmp_path / "itp", finished)


def test_going_on_from_a_model_begins_a_new_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (run / "checkpoint.pt").read_bytes()
    for number in (1, 2):
        assert main(["--load-model", str(run), "--episodes", "4"]) == 0
        config = json.loads((tmp_path / f"runs/fifo-seed0-tuned{number}/config.json").read_text())
        # All that is not said is as in the run it begins with, but for the teacher.
        assert (config["episodes"], config["tasks"], config["teacher_episodes"]) == (4, 20, 0)
    assert (run / "checkpoint.pt").read_bytes() == before
    theirs = checkpoint.load(run / "checkpoint.pt")["network"]
    mine = checkpoint.load(tmp_path / "runs/fifo-seed0-tuned1/checkpoint.pt")["network"]
    for name, weights in theirs.items():
        assert 0 < float((mine[name] - weights).abs().max()) < 0.1, name


def test_models_of_both_orders_are_variants_of_one(finished: Path, tmp_path: Path) -> None:
    assert main(["--episodes", "8", *TINY, "--service-order", "srpt", "--out", str(tmp_path)]) == 0
    for name in ("dqn.onnx", "dqn.json"):
        shutil.copy(finished / name, tmp_path)
    for order, name in (("fifo", "dqn.onnx"), ("srpt", "dqn-srpt.onnx")):
        model = load_model(tmp_path / "dqn.onnx", order)
        assert (model.path.name, model.service_order) == (name, order)


def test_json(tmp_path: Path) -> None:
    done = train("--episodes", 8, *TINY, "--out", tmp_path / "run", "--json")
    *rounds, summary = map(json.loads, done.stdout.splitlines())
    assert [found["episodes"] for found in rounds] == [4, 8]
    assert summary["model"] == str(tmp_path / "run" / "dqn.onnx")
    assert (summary["interrupted"], summary["episodes"], summary["updates"]) == (False, 8, 20)
    assert summary["validation_slowdown"] == rounds[-1]["validation_slowdown"]
    assert summary["teacher"] == "single_best"


def test_quiet_tells_the_end_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--episodes", "8", *TINY, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("8 of 8 episodes")
    assert err == ""


def test_curves_show_the_teacher(finished: Path) -> None:
    rounds = [Round(**json.loads(line)) for line in lines(finished / "metrics.jsonl")]
    validation, reward, loss, epsilon = curves(rounds, "single_best", 2.25).axes
    shown = [line.get_ydata() for line in validation.get_lines()]
    assert list(shown[0]) == [done.validation_slowdown for done in rounds]
    assert list(shown[1]) == [2.25, 2.25]
    for axes, name in ((reward, "reward"), (loss, "loss"), (epsilon, "epsilon")):
        assert list(axes.get_lines()[0].get_ydata()) == [getattr(done, name) for done in rounds]


def test_tensorboard_sees_every_round_once(run: Path) -> None:
    pytest.importorskip("tensorboard", reason="the curves are TensorBoard's: pip install 'itp[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("validation_slowdown")] == [4, 8]


def test_without_tensorboard_there_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["--episodes", "8", *TINY, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err.count("pip install tensorboard") == 1
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_panel_shows_rounds_and_speed(finished: Path) -> None:
    rounds = [Round(**json.loads(line)) for line in lines(finished / "metrics.jsonl")]
    output = io.StringIO()
    panel = Panel(Console(file=output, force_terminal=True, width=80), rounds[:1], 2)
    with panel:
        panel.tick(Moment("collecting", 0.6, 100, 10))
        panel.finished(rounds)
    shown = output.getvalue()
    for done in rounds:
        assert f"{done.validation_slowdown:.3f}" in shown
    assert "decisions/s" in shown
    assert "100%" in shown


def test_figures_that_could_not_be_written_come_with_the_next(finished: Path, tmp_path: Path) -> None:
    rounds = [Round(**json.loads(line)) for line in lines(finished / "metrics.jsonl")]
    files = RunFiles(tmp_path, preset("default"), [])
    metrics = tmp_path / "metrics.jsonl"
    metrics.unlink()
    metrics.mkdir()
    with pytest.raises(OSError, match="directory"):
        files.add(rounds[:1])
    metrics.rmdir()
    files.add(rounds)
    files.close()
    assert rounds_of(tmp_path) == rounds_of(finished)


# --- evaluation ---


def test_evaluation(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "RIVALS", ("single_best", "pull"))
    before = (run / "checkpoint.pt").read_bytes()
    args = ["--load-model", str(run), "--evaluate", "--scenario", "lossy", "--episodes", "2"]
    assert main(args) == 0
    out = capsys.readouterr().out
    for words in ("lossy, fifo", "dqn", "single best", "pull"):
        assert words in out
    assert main([*args, "--out", str(tmp_path / "report"), "--json"]) == 0
    report = Report.from_json(capsys.readouterr().out)
    assert report.configuration.policies == ("dqn", "single_best", "pull")
    assert report.configuration.command.endswith(shlex.join(args))
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {
        "dqn.onnx", "dqn.json", "evaluation.html", "evaluation.md", "evaluation.json",
    }  # fmt: skip
    assert (run / "checkpoint.pt").read_bytes() == before


def test_an_evaluation_leaves_other_runs_alone(
    run: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--load-model", str(finished), "--evaluate", "--out", str(run)]) == 2
    assert "holds another run" in capsys.readouterr().err


# --- stopped, killed, resumed ---


def test_killed_and_resumed_it_ends_in_the_same_bits(unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    rounds = random.randint(1, 8)
    wait_for_rounds(process, folder, rounds)
    time.sleep(random.random() * 0.2)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL, f"over before the kill after round {rounds}"
    done = train("--resume", "--out", folder, "--save-freq", 8)
    assert done.returncode == 0, done.stderr
    assert_same_end(folder, unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_saves_and_says_how_to_go_on(number: int, unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    process.send_signal(number)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert 0 < checkpoint.load(folder / "checkpoint.pt")["updates"] < 4000
    _, found, command = err.strip().rpartition("to go on: itp ")
    assert found
    done = train(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    assert (folder / "net.onnx").exists()
    assert_same_end(folder, unbroken)


def test_a_second_ctrl_c_leaves_at_once() -> None:
    trainer = SimpleNamespace(stop=False)
    before = signal.getsignal(signal.SIGINT)
    with course.stopping(trainer):
        signal.raise_signal(signal.SIGINT)
        assert trainer.stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_a_finished_run_writes_its_files_again(run: Path, finished: Path) -> None:
    (run / "dqn.onnx").unlink()
    (run / "metrics.jsonl").write_text("doubled\n")
    assert main(["--resume", "--out", str(run)]) == 0
    # The version ends in the digest of the weights.
    assert load_model(run / "dqn.onnx").version == load_model(finished / "dqn.onnx").version
    assert_same_end(run, finished)


def test_a_folder_with_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert main(["--episodes", "8", *TINY, "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--episodes", "9"], "episodes = 8, not 9"),
        (["--set", "hidden=8,8"], "hidden = 128,128,64, not 8,8"),
        (["--preset", "mission"], "objective = slowdown, not reward"),
        (["--service-order", "srpt"], "service_order = fifo, not srpt"),
    ],
)
def test_resuming_with_other_options_is_refused(
    option: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--resume", "--out", str(run), *option]) == 2
    assert said in capsys.readouterr().err


def test_weights_of_another_network_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--load-model", str(run), "--out", str(tmp_path / "new")]
    assert main([*args, "--set", "hidden=8"]) == 1
    assert "hidden is (128, 128, 64) there" in capsys.readouterr().err
    assert main([*args, "--service-order", "srpt"]) == 1
    assert "service_order is 'fifo' there" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# --- damage ---


def flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_byte, "corrupt"),
        (lambda content: content[:-1], "corrupt or truncated"),
        (lambda content: content[:20], "no checkpoint"),
        (lambda _: b"", "no checkpoint"),
        (lambda _: b"PK\x03\x04 a zip file of somebody's", "no checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_left_alone(
    damage: Callable[[bytes], bytes],
    said: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = run / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    for args in (
        ["--resume", "--out", str(run)],
        ["--load-model", str(path), "--out", str(tmp_path / "new")],
        ["--load-model", str(path), "--evaluate"],
    ):
        assert main(args) == 1
        assert said in capsys.readouterr().err
    assert path.read_bytes() == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("config", [{"unheard_of": 1}, {"episodes": -1}, {"hidden": 5}, None])
def test_a_checkpoint_with_a_wrong_configuration_is_refused(
    config: object, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "checkpoint.pt"
    content = checkpoint.load(path)
    content["config"] = config
    checkpoint.save(path, content)
    for args in (["--resume", "--out", str(run)], ["--load-model", str(run), "--out", str(tmp_path / "new")]):
        assert main(args) == 1
        assert str(path) in capsys.readouterr().err


def test_a_full_disk_on_the_way_is_a_warning(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, real, calls = tmp_path / "run", checkpoint.save, 0

    def save(path: Path, content: dict[str, object]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.setattr(checkpoint, "save", save)
    assert main(["--episodes", "8", *TINY, "--save-freq", "4", "--out", str(folder)]) == 0
    err = capsys.readouterr().err
    assert err.count("warning") == 1
    assert "episode 4: No space left" in err
    assert calls == 3
    assert_same_end(folder, finished)


def test_a_full_disk_at_the_end_is_an_error_and_the_last_checkpoint_stands(tmp_path: Path) -> None:
    args = ["--episodes", "8", *TINY, "--set", "tasks=400", "--set", "hidden=8"]
    twin, folder = tmp_path / "twin", tmp_path / "run"
    assert main([*args, "--out", str(twin)]) == 0
    # Room for the first checkpoint, with an empty buffer, and for no other.
    room = (twin / "checkpoint.pt").stat().st_size // 2

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = train(*args, "--out", folder, preexec_fn=limit)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the last checkpoint stands" in done.stderr
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert checkpoint.load(folder / "checkpoint.pt")["updates"] == 0
    assert main(["--resume", "--out", str(folder)]) == 0
    assert_same_end(folder, twin)


def test_a_loss_that_is_not_finite_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Collector, "look_ahead", lambda *_: np.float32(np.inf))
    folder = tmp_path / "run"
    assert main(["--episodes", "8", *TINY, "--out", str(folder)]) == 1
    err = capsys.readouterr().err
    assert "the loss of update 1 is" in err
    assert "lower learning_rate" in err
    weights = checkpoint.load(folder / "checkpoint.pt")["network"].values()
    assert all(torch.isfinite(weight).all() for weight in weights)


# --- mistakes ---


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--evaluate"], "needs --load-model"),
        (["--load-model", "m", "--evaluate", "--seed", "1"], "--seed is for training"),
        (["--load-model", "m", "--resume"], "choose one"),
        (["--load-model", "net.onnx"], "itp evaluate"),
        (["--resume", "--out", "nowhere"], "no run in nowhere"),
        (["--scenario", "lossyy"], "did you mean lossy?"),
        (["--episodes", "0"], "episodes = 0"),
        (["--save-freq", "0"], "--save-freq must be at least 1"),
        (["--threads", "0"], "--threads must be"),
        (["--name", "a/b"], "--name must be"),
        (["--set", "learning_rate=fast"], "learning_rate = 'fast'"),
        (["--set", "learning_rat=1"], "no such setting: learning_rat"),
        (["--set", "td_weight=0", "--set", "look_ahead_share=0"], "nothing to learn from"),
    ],
)
def test_wrong_usage(
    args: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_setting_needs_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "tasks"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_scenario_without_four_paths_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.toml"
    path.write_text('name = "two"\n[[paths]]\nrate_mbit = 10\n[[paths]]\nrate_mbit = 20\n')
    assert main(["--scenario", str(path), "--out", str(tmp_path / "run"), *TINY]) == 1
    assert "2 paths" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cuda", "--out", str(tmp_path / "run"), *TINY]) == 1
    assert "PyTorch finds no GPU" in capsys.readouterr().err


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_place_that_can_be_no_folder(finished: Path, tmp_path: Path, evaluated: bool) -> None:
    (tmp_path / "file").write_text("mine")
    arguments = ("--load-model", finished, "--evaluate") if evaluated else ("--episodes", 50)
    done = train(*arguments, "--out", tmp_path / "file")
    assert done.returncode == 2
    assert "no folder can be made there: File exists" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
