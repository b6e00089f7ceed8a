"""What importing the package costs and brings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from itp.models.onnxruntime import runtime

pytestmark = pytest.mark.core


def test_import_brings_neither_torch_nor_onnxruntime():
    code = (
        "import itp, sys; "
        "p = itp.TaskPartitioner(); p.partition_task(itp.Task('t', 1)); "
        "heavy = {'torch', 'onnxruntime', 'rich', 'blake3', 'xxhash'}; "
        "print([m for m in sys.modules if m.partition('.')[0] in heavy])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_nothing_is_logged_by_default():
    code = "import itp, logging; assert logging.getLogger('itp').handlers"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_onnxruntime_reports_to_nobody(tmp_path):
    # Some names make onnxruntime believe that it is being tested, and then it keeps quiet by itself.
    named = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "ASAN_OPTIONS", "PYTHONMALLOC")
    environment = {name: os.environ[name] for name in named if name in os.environ}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = "import itp; itp.TaskPartitioner('dqn_v1').close()"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, env=environment)
    assert list(tmp_path.iterdir()) == []  # no identity on the disk


def test_whether_onnxruntime_reports_can_be_chosen(monkeypatch):
    runtime()  # it has read the variable: what follows changes nothing in this process
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    runtime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    runtime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
