"""Commands with standard streams that are closed, broken or full: the exit code is that of the work."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from processes import group_of
from transport_peers import eventually

TIMEOUT_S = 120
ITP = f"{shlex.quote(sys.executable)} -c 'import sys; from itp.cli import main; sys.exit(main())'"
EVALUATE = "evaluate --policy pull oracle --scenario lossy --seeds 2 --tasks 10"
COMMANDS = {
    "--help": 0,
    "info": 0,
    "simulate lossy --episodes 2 --tasks 10 --metrics metrics": 0,
    "simulate lossy --episodes 2 --tasks 10 --metrics metrics --json": 0,
    f"{EVALUATE} --processes 1 --markdown report.md": 0,
    f"{EVALUATE} --processes 2 --json": 0,
    "bench --help": 0,
    "bench --only simulator --seconds 0.1": 0,
    "simulate nothing": 2,
    "nothing": 2,
    "info --model nothing": 1,
}


def shell(command, folder):
    """What a command that is written for a shell leaves: its exit code and what it printed."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-", "2>&1 | true"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_exit_code_is_the_works_own(command, redirection, tmp_path):
    done = shell(f"{ITP} {command} {redirection}", tmp_path)
    assert done.returncode == COMMANDS[command], done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    if "--metrics" in command:
        lines = (tmp_path / "metrics").read_text().splitlines()
        assert [json.loads(line)["tasks"] for line in lines] == [10, 10]
    if "--markdown" in command:
        assert "# Policies compared" in (tmp_path / "report.md").read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_loses_the_result(command, tmp_path):
    done = shell(f"{ITP} {command} > /dev/full", tmp_path)
    assert done.returncode == (COMMANDS[command] or 1)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("itp: standard output is incomplete: No space left on device\n") == (
        COMMANDS[command] == 0
    )


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-", "| true"])
@pytest.mark.parametrize("form", ["", "--json"])
def test_transfers(form, redirection, tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "arrivals").mkdir()
    # The port is known from the receiver's listening socket: it may print nothing.
    command = f"exec {ITP} recv arrivals --listen 127.0.0.1:0 --once {form} {redirection}"
    if "|" in redirection:
        command = command.removeprefix("exec ")
    with subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as receiver:
        try:
            ports = []
            eventually(lambda: ports.extend(listening(receiver.pid)) or ports, "the receiver listens")
            sent = shell(f"{ITP} send file 127.0.0.1:{ports[0]} {form} {redirection}", tmp_path)
            _, err = receiver.communicate(timeout=TIMEOUT_S)
        finally:
            receiver.kill()
    assert (sent.returncode, sent.stderr) == (0, "")
    assert (receiver.returncode, err) == (0, "")
    assert (tmp_path / "arrivals" / "file").read_bytes() == content


def listening(leader):
    """The TCP ports that a process group listens on."""
    inodes = set()
    for pid in group_of(leader):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        inodes.update(link[8:-1] for link in links if link.startswith("socket:["))
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", "> /dev/full"])
def test_the_demonstration(redirection, tmp_path):
    done = shell(f"{ITP} demo --seconds 1 --rates 400,200 --json {redirection}", tmp_path)
    assert done.returncode == ("full" in redirection), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", "> /dev/full"])
def test_training(redirection, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'itp[train]'")
    small = "--set tasks=20 --set envs=4 --set hidden=8 --batch-size 8"
    done = shell(f"{ITP} train --episodes 8 {small} --out run {redirection}", tmp_path)
    assert done.returncode == ("full" in redirection), done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "dqn.onnx").is_file()


def test_a_receiver_goes_on_when_its_reader_has_gone(tmp_path):
    """Not the reader of its events decides whether files arrive."""
    (tmp_path / "arrivals").mkdir()
    for name in "ab":
        (tmp_path / name).write_bytes(os.urandom(1000))
    with subprocess.Popen(
        ["bash", "-c", f"{ITP} recv arrivals --listen 127.0.0.1:0 --json | head -1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as pipeline:
        address = json.loads(pipeline.stdout.readline())["address"]
        try:
            for name in "ab":
                assert shell(f"{ITP} send {name} {address}", tmp_path).returncode == 0
        finally:
            os.killpg(pipeline.pid, 15)
    assert sorted(os.listdir(tmp_path / "arrivals")) == ["a", "b"]
