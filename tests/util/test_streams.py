"""Standard streams that are closed, broken, full, non-blocking, or that lack characters."""

import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from itp._util.command import UsageError, exit_code
from itp._util.streams import Output, standard_streams
from itp.errors import ItpError

TIMEOUT_S = 60
FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="there is no /dev/full")


def python(script, redirection="", **environment):
    """A script under a shell that redirects its streams."""
    command = f'"$0" -c "$1" {redirection}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
    )


PRINTS = """
import sys
from itp._util.command import exit_code

def run():
    for number in range(20_000):
        print("line", number)
    print("done", file=sys.stderr)
    return 7

sys.exit(exit_code("test", run))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirection", [">&-", ">&- <&-", "| true", "| head -1 >&2"])
def test_the_exit_code_is_the_works_own(redirection, unbuffered):
    code = 'echo "code $?" >&3;'
    done = python(PRINTS, f"; {code}", PYTHONUNBUFFERED=unbuffered)  # the script itself is right
    assert done.stdout.count("\n") == 20_000
    script = f'{{ "$0" -c "$1"; {code} }} 3>&2 {redirection}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, PRINTS],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    lines = done.stderr.splitlines()
    assert sorted(line for line in lines if line != "line 0") == ["code 7", "done"]


@needs_full
@pytest.mark.parametrize(("code", "expected"), [(0, 1), (1, 1), (130, 130)])
def test_output_that_is_lost_is_a_failure(code, expected):
    done = python(PRINTS.replace("return 7", f"return {code}"), f"> {FULL}")
    assert done.returncode == expected
    assert done.stderr == "itp: standard output is incomplete: No space left on device\ndone\n"
    done = python(PRINTS.replace("return 7", f"return {code}"), f"> {FULL} 2> {FULL}")
    assert (done.returncode, done.stderr) == (expected, "")


@needs_full
def test_standard_error_that_is_lost_is_none():
    done = python(PRINTS, f"2> {FULL}")
    assert (done.returncode, done.stdout.count("\n")) == (7, 20_000)


def test_a_descriptor_that_cannot_be_written(tmp_path):
    done = python(PRINTS.replace("return 7", "return 0"), "1< /dev/null")
    assert done.returncode == 1
    assert "Bad file descriptor" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_files_never_take_the_place_of_a_closed_stream(closed, tmp_path):
    script = """
import os, subprocess, sys
from itp._util.command import exit_code

def run():
    with open("data", "w") as file:
        print("for people")
        print("for people", file=sys.stderr)
        sys.stdout.flush()
        os.write(1, b"")
        subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
        file.write(str(file.fileno()))
    return 0

sys.exit(exit_code("test", run))
"""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0
    assert int((tmp_path / "data").read_text()) > 2


def test_a_descriptor_that_another_file_has_taken_is_left_alone(tmp_path):
    script = """
import sys
taken = open("data", "w")  # before anything of ours runs
assert taken.fileno() == 1
from itp._util.command import exit_code
exit_code("test", lambda: print("for people") or 0)
taken.write("data")
taken.close()
"""
    command = ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, script]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=TIMEOUT_S)
    assert (tmp_path / "data").read_text() == "data"


def test_a_pipe_that_does_not_block_loses_nothing():
    reading, writing = os.pipe()
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    fcntl.fcntl(writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    script = PRINTS.replace("return 7", "return 0")
    with subprocess.Popen([sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        time.sleep(0.2)  # until the pipe is full
        with open(reading, "rb") as file:
            content = file.read()
        assert process.wait(TIMEOUT_S) == 0
    assert content == b"".join(b"line %d\n" % number for number in range(20_000))


def test_ctrl_c_does_not_wait_for_a_reader_that_takes_nothing():
    script = """
import os, signal, sys, threading
from itp._util.command import exit_code
from itp._util.signals import interruptible

def run():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with interruptible():
        print("x" * 1_000_000)
    return 0

sys.exit(exit_code("test", run))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.wait(TIMEOUT_S) == 130
        assert process.stderr.read() == "test: interrupted\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "\N{MINUS SIGN}1 \N{EN DASH} \N{SNOWMAN} \\udcff"),
        ("latin-1", "-1 - \\u2603 \\udcff"),
        ("ascii", "-1 - \\u2603 \\udcff"),
    ],
)
def test_what_an_encoding_lacks_is_replaced(encoding, expected):
    script = r"""
import sys
from itp._util.command import exit_code
text = "\N{MINUS SIGN}1 \N{EN DASH} \N{SNOWMAN} \udcff"
sys.exit(exit_code("test", lambda: print(text) or print(text, file=sys.stderr) or 0))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0
    assert done.stdout.decode(encoding) == done.stderr.decode(encoding) == expected + "\n"


# --- in this process ---


def test_the_streams_of_others_stay(capsys):
    before = sys.stdout, sys.stderr
    with standard_streams() as output:
        assert (sys.stdout, sys.stderr) == before
        print("seen")
    assert not output.lost
    assert capsys.readouterr().out == "seen\n"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("no\nsense"), 2, "test: no?sense\n"),
        (ItpError("broken"), 1, "test: broken\n"),
        (
            OSError(28, "No space left on device", "file"),
            1,
            "test: file: No space left on device\n",
        ),
        (MemoryError("1 GiB"), 1, "test: out of memory: 1 GiB\n"),
        (KeyboardInterrupt(), 130, "test: interrupted\n"),
        (SystemExit(2), 2, ""),
        (SystemExit(0), 0, ""),
    ],
)
def test_what_ends_a_command(error, code, text, capsys):
    def run():
        raise error

    assert exit_code("test", run) == code
    assert capsys.readouterr().err == text


def test_a_defect_is_not_hidden():
    def run():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code("test", run)


def test_exit_codes_nest():
    script = """
import sys
from itp._util.command import exit_code
inner = lambda: exit_code("inner", lambda: print("text") or 0)
sys.exit(exit_code("outer", inner))
"""
    done = python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\n", "")
    done = python(script, f"> {FULL}")
    assert done.returncode == 1
    assert done.stderr.count("incomplete") == 1


def test_writing_is_whole_whatever_the_descriptor_takes():
    reading, writing = os.pipe()
    data = os.urandom(1_000_000)
    received = []

    def read():
        with open(reading, "rb") as file:
            received.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    output = Output(writing)
    assert output.write(data) == len(data)
    os.close(writing)
    reader.join()
    assert received == [data]
    assert output.write(b"more") == 4  # EBADF by now
    assert output.lost
