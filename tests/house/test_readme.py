"""The README's examples do what it says they do, to the letter."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import itp

README = Path(__file__).parents[2] / "README.md"
HOURS = (0, 9, 17)
TIMEOUT_S = 120


def blocks():
    """Fenced blocks: (section, language, content, whether nothing lies between it and the one before)."""
    section, found, end = "", [], 0
    text = README.read_text()
    for match in re.finditer(r"^## ([^\n]+)$|^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1]:
            section = match[1]
        else:
            found.append((section, match[2], match[3], not text[end : match.start()].strip()))
        end = match.end()
    return found


BLOCKS = blocks()


def examples():
    """The Python blocks of each section with the output that is shown for each."""
    sections = {}
    for k, (section, language, code, _) in enumerate(BLOCKS):
        if language == "python":
            following = BLOCKS[k + 1] if k + 1 < len(BLOCKS) else ("", "", "", False)
            shown = following[2] if following[1] == "" and following[3] else ""
            sections.setdefault(section, []).append((code, shown))
    return sections


@pytest.mark.parametrize("hour", HOURS)
@pytest.mark.parametrize("section", examples())
def test_python(section, hour, monkeypatch):
    """Whatever the time of day is, and however long the machine takes between two lines."""

    class AtThatHour(itp.TaskPartitioner):
        def __init__(self, *args, **options):
            options.setdefault("clock", itp.ManualClock(0.0, 3600.0 * hour))
            super().__init__(*args, **options)

    monkeypatch.setattr(itp, "TaskPartitioner", AtThatHour)
    space = {}
    for code, shown in examples()[section]:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, f"README.md, {section}", "exec"), space)
        assert out.getvalue() == shown


def commands():
    """The commands that begin with a prompt, each with the output that is shown for it."""
    for _, _, content, _ in BLOCKS:
        for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown


# The figures of speed are the machine's.
SPEED = re.compile(r"(decisions/s) +[\d,]+")


def plain(text):
    return [SPEED.sub(r"\1", line).split() for line in text.splitlines() if line.strip(" ─")]


@pytest.mark.parametrize(("command", "shown"), list(commands()))
def test_commands(command, shown, tmp_path):
    program = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
    words, _, file = command.partition(" > ")
    name, *args = words.split()
    assert name == "itp"
    done = subprocess.run(
        [*program, *args], capture_output=True, text=True, timeout=TIMEOUT_S, cwd=tmp_path, check=True
    )
    # With `> FILE` what is shown is standard error's.
    found, expected = plain(done.stderr if file else done.stdout), plain(shown)
    if expected[-1] == ["..."]:
        del expected[-1], found[len(expected) :]
    assert found == expected


def test_there_is_something_to_run():
    assert len(examples()) == 2
    assert len([*commands()]) == 4
