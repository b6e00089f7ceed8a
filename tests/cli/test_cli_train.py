"""``itp train`` is the trainer in another process's place, and costs the others nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

import pytest

from itp.cli import main

TIMEOUT_S = 60


class ReplacedError(Exception):
    """The process would be another one now."""


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--episodes", "8", "--set", "tasks=20", "--json"],
        ["--help"],
        ["--version"],
        ["-h", "--", "x", "--load-model", "a b"],
    ],
)
def test_all_arguments_are_passed_on(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(path: str, command: list[str], environment: dict[str, str]) -> NoReturn:
        assert path == command[0] == sys.executable
        assert command[1:] == ["-m", "itp_training", *args]
        assert environment["ITP_PROG"] == "itp train"
        raise ReplacedError

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(ReplacedError):
        main(["train", *args])


def test_the_commands_import_neither_the_trainer_nor_torch() -> None:
    code = (
        "import sys; from itp.cli import build_parser; build_parser(); "
        "print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'itp_training')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["torch", "onnx", "matplotlib"])
def test_a_missing_package_is_told_with_its_extra(package: str, tmp_path: object) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from itp_training.cli import main; "
        "sys.exit(main(['--episodes', '4', '--out', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{tmp_path}/run"], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 1
    assert "pip install 'itp[train]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(f"{tmp_path}/run")
