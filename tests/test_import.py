"""What importing the package costs and brings."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
