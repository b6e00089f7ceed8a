"""`itp recv`, `itp send` and `itp demo` as real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from blake3 import blake3

from itp.transport.io.addresses import format_address, parse_address
from set_models import set_file
from transport_peers import Proxy, RawSender, eventually, leftovers

TIMEOUT_S = 60
ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
SLOW = "5,5,5,5"
SLOW_FILE_BYTES = 20_000_000


def itp(*args, **options):
    return subprocess.run(
        [*ITP, *map(str, args)], capture_output=True, text=True, timeout=TIMEOUT_S, **options
    )


@contextlib.contextmanager
def started(*args):
    process = subprocess.Popen(
        [*ITP, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def receiving(folder, *args):
    """A receiver process and its address."""
    with started("recv", folder, "--listen", "127.0.0.1:0", "--json", *args) as process:
        yield process, json.loads(process.stdout.readline())["address"]


@pytest.fixture
def arrivals(tmp_path):
    folder = tmp_path / "arrivals"
    folder.mkdir()
    return folder


def make_file(folder, name, size):
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


def test_send_and_receive(tmp_path, arrivals):
    paths = [
        make_file(tmp_path, f"{name}.bin", size) for name, size in (("a", 0), ("b", 1), ("c", 3_000_000))
    ]
    with receiving(arrivals, "--once") as (receiver, address):
        sent = itp("send", *paths, address, "--json", "--pace-mbps", "200,100,50,0")
        out, err = receiver.communicate(timeout=TIMEOUT_S)
    assert (sent.returncode, sent.stderr, receiver.returncode, err) == (0, "", 0, "")
    report = json.loads(sent.stdout)
    events = [json.loads(line) for line in out.splitlines()]
    received = {event["name"]: event for event in events if event["event"] == "file"}
    for path, file in zip(paths, report["files"], strict=True):
        digest = blake3(path.read_bytes()).hexdigest()
        assert file["blake3"] == received[path.name]["blake3"] == digest
        assert (arrivals / path.name).read_bytes() == path.read_bytes()
        assert file["error"] is None
    assert sum(report["files"][2]["decision"]["chunk_sizes"]) == 3_000_000
    assert [stream["up"] for stream in report["streams"]] == [True] * 4
    assert (events[-1]["event"], events[-1]["received_files"], events[-1]["error"]) == ("session", 3, None)


def test_tables_for_people(tmp_path, arrivals):
    path = make_file(tmp_path, "[bold]name.bin", 100_000)
    with started("recv", arrivals, "--listen", "127.0.0.1:0", "--once") as receiver:
        address = receiver.stdout.readline().split()[2].rstrip(",")
        sent = itp("send", path, address, "--streams", 1, "--policy", "round_robin")
        out, _ = receiver.communicate(timeout=TIMEOUT_S)
    digest = blake3(path.read_bytes()).hexdigest()[:16]
    assert sent.returncode == receiver.returncode == 0
    assert "[bold]name.bin" in sent.stdout
    assert digest in sent.stdout
    assert digest in out
    assert "1 received, 0 failed" in out


def test_a_failed_file_fails_the_command_and_names_the_reason(tmp_path, arrivals):
    good = make_file(tmp_path, "good", 1000)
    (arrivals / "taken").mkdir()
    taken = make_file(tmp_path, "taken", 1000)
    with receiving(arrivals, "--once") as (receiver, address):
        sent = itp("send", good, taken, tmp_path / "missing", address)
        receiver.communicate(timeout=TIMEOUT_S)
    assert sent.returncode == 1
    assert "taken: Is a directory" in sent.stderr
    assert "missing: cannot open" in sent.stderr
    assert receiver.returncode == 1
    assert (arrivals / "good").read_bytes() == good.read_bytes()


def test_names_that_the_terminal_cannot_show(tmp_path, arrivals):
    files = [make_file(tmp_path, name, 1000) for name in ("naïve.bin", "red\x1b[31m.bin")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    with receiving(arrivals, "--once") as (receiver, address):
        sent = itp("send", *files, address, env=environment)
        receiver.communicate(timeout=TIMEOUT_S)
    assert sent.returncode == 1
    assert "na\\xefve.bin" in sent.stdout
    assert "red?[31m.bin: the file's name" in sent.stderr
    assert "\x1b" not in sent.stderr


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["send", "a/x", "b/x", "h:1"], "several files are called x"),
        (["send", ".", "h:1"], "is a directory"),
        (["send", "f", "h:port"], "expected a port"),
        (["send", "f", "::1:7411"], "in brackets"),
        (["send", "f", "h:1", "--streams", "17"], "--streams"),
        (["send", "f", "127.0.0.1:1", "--pace-mbps", "1,2"], "one rate a stream, 4 of them; got 2"),
        (["send", "f", "127.0.0.1:1", "--pace-mbps", "-1,2,3,4"], "--pace-mbps"),
        (["recv", "no\x1b[31m"], "itp recv: no?[31m is not a directory"),
        (["send", "f", "h:1", "--pace-mbps", "fast"], "expected rates"),
        (["send", "h:1"], "required"),
        (["recv", "no-such-folder"], "not a directory"),
        (["recv", ".", "--listen", "h:99999"], "expected a port"),
        (["demo", "--files", "no-such-folder"], "cannot read"),
        (["demo", "--rates", "0"], "--rates"),
        (["demo", "--seconds", "0"], "--seconds"),
    ],
)
def test_wrong_usage(args, reason, tmp_path):
    done = itp(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_listens(tmp_path, arrivals):
    with receiving(arrivals) as (_, address):
        pass
    done = itp("send", make_file(tmp_path, "f", 1), address)
    assert (done.returncode, done.stderr) == (1, f"itp send: cannot send to {address}: Connection refused\n")


def test_the_address_is_taken(arrivals):
    with receiving(arrivals) as (_, address):
        done = itp("recv", arrivals, "--listen", address)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lost_stream_is_a_warning(tmp_path, arrivals):
    path = make_file(tmp_path, "f", 6_000_000)
    with (
        receiving(arrivals) as (_, address),
        Proxy(parse_address(address), cut_after={1: 400_000}) as proxy,
    ):
        done = itp("send", path, format_address(*proxy.address), "--policy", "equal_split")
    assert done.returncode == 0
    assert "was lost" in done.stderr
    assert (arrivals / "f").read_bytes() == path.read_bytes()


def test_garbage_does_not_end_the_receiver(tmp_path, arrivals):
    with receiving(arrivals, "--once") as (receiver, address):
        with RawSender(parse_address(address), version=2) as raw:
            assert raw.is_closed_by_peer()
        assert itp("send", make_file(tmp_path, "f", 1), address).returncode == 0
        _, err = receiver.communicate(timeout=TIMEOUT_S)
    assert "version 2" in err
    assert receiver.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_receiver(tmp_path, arrivals, number):
    path = make_file(tmp_path, "f", SLOW_FILE_BYTES)
    with (
        receiving(arrivals) as (receiver, address),
        started("send", path, address, "--pace-mbps", SLOW) as sender,
    ):
        eventually(lambda: leftovers(arrivals), "the transfer is under way")
        receiver.send_signal(number)
        out, err = receiver.communicate(timeout=TIMEOUT_S)
        assert (receiver.returncode, err) == (130, "itp recv: interrupted\n")
        file, session = map(json.loads, out.splitlines())
        assert (file["event"], file["name"]) == ("file", "f")
        assert file["error"] == "the receiver was shut down"
        assert (session["event"], session["failed_files"]) == ("session", 1)
        _, err = sender.communicate(timeout=TIMEOUT_S)
    assert sender.returncode == 1
    assert "the receiver is shutting down" in err
    assert "Traceback" not in err
    assert os.listdir(arrivals) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_sender(tmp_path, arrivals, number):
    path = make_file(tmp_path, "f", SLOW_FILE_BYTES)
    with receiving(arrivals) as (receiver, address):
        with started("send", path, address, "--pace-mbps", SLOW) as sender:
            eventually(lambda: leftovers(arrivals), "the transfer is under way")
            sender.send_signal(number)
            _, err = sender.communicate(timeout=TIMEOUT_S)
            assert (sender.returncode, err) == (130, "itp send: interrupted\n")
        assert json.loads(receiver.stdout.readline())["error"]
        assert json.loads(receiver.stdout.readline())["failed_files"] == 1
        assert os.listdir(arrivals) == []
        assert itp("send", make_file(tmp_path, "g", 1), address).returncode == 0


def test_a_killed_receiver_is_noticed(tmp_path, arrivals):
    path = make_file(tmp_path, "f", SLOW_FILE_BYTES)
    with (
        receiving(arrivals) as (receiver, address),
        started("send", path, address, "--pace-mbps", SLOW) as sender,
    ):
        eventually(lambda: leftovers(arrivals), "the transfer is under way")
        receiver.kill()
        _, err = sender.communicate(timeout=TIMEOUT_S)
    assert sender.returncode == 1
    assert "all streams are lost" in err


def test_demo(tmp_path):
    # Fast and short: what it shows is checked here, not how the policies compare.
    done = itp(
        "demo", "--seconds", 2, "--rates", "400,200", "--json", env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert [run["policy"] for run in report["policies"]] == [
        "round_robin",
        "single_best",
        "least_completion_time",
        "auto",
        "set_v2",
    ]
    assert all(run["verified"] == run["files"] > 0 and not run["errors"] for run in report["policies"])
    assert report["decisions"]
    assert os.listdir(tmp_path) == []


def test_any_policy_is_served(tmp_path, arrivals):
    """Models with a preference, and rules, by send and by demo; what cannot be served is refused before."""
    model = set_file(tmp_path / "sets.onnx")
    path = make_file(tmp_path, "f", 300_000)
    with receiving(arrivals) as (_, address):
        done = itp("send", path, address, "--policy", f"{model}:bulk", "--streams", 3, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["policy"] == f"{model}:bulk"
        for policy, text in (
            ("bulkiest", "no policy"),
            (f"{model}:prefer=7", "expected a number from 0 to 1"),
            (f"{model}:no-guard", "a model is served with its guard"),
            (tmp_path / "none.onnx", "no such file"),
        ):
            done = itp("send", path, address, "--policy", policy)
            assert done.returncode == 2
            assert "Traceback" not in done.stderr
            assert text in done.stderr or policy == "bulkiest"
    policies = [f"{model}:typical", "single_best:hard-deadlines"]
    done = itp("demo", "--seconds", 2, "--rates", "400,200", "--policy", *policies, "--json")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert [run["policy"] for run in json.loads(done.stdout)["policies"]] == policies


def test_demo_with_own_files(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for i in range(5):
        make_file(folder, f"{i}.bin", 100_000 * i)
    before = sorted(os.listdir(folder))
    done = itp("demo", "--files", folder, "--seconds", 2, "--rates", "400,200")
    assert done.returncode == 0
    assert done.stdout.count("5/5") == 5
    assert sorted(os.listdir(folder)) == before


def test_interrupting_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started("demo", "--json") as demo:
        eventually(lambda: any(tmp_path.glob("itp-demo-*/*/*.bin")), "the first files arrive")
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 130
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []
