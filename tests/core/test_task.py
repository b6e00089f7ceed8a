"""Tasks: what is accepted, what is refused and how."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from itp import Task

pytestmark = pytest.mark.core


def test_values_and_defaults():
    task = Task("a", 10)
    assert (task.id, task.size_bytes, task.priority) == ("a", 10, 0.5)
    assert (task.deadline_s, task.min_bandwidth_mbps, task.redundancy) == (None, 0.0, 1)
    assert Task(id="b", size_bytes=np.int64(2**62), deadline_s=5).deadline_s == 5.0
    assert Task("c", 2**63 - 1).size_bytes == 2**63 - 1


def test_value_semantics():
    task = Task("a", 10, 0.8, deadline_s=3.0, redundancy=2)
    assert task == Task("a", 10, 0.8, deadline_s=3.0, redundancy=2)
    assert task != Task("a", 11, 0.8, deadline_s=3.0, redundancy=2)
    assert task != "a"
    assert hash(task) == hash(pickle.loads(pickle.dumps(task)))
    assert pickle.loads(pickle.dumps(task)) == task
    assert "size_bytes=10" in repr(task)
    with pytest.raises(AttributeError):
        task.size_bytes = 5


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"size_bytes": 0}, ValueError, "size_bytes"),
        ({"size_bytes": -5}, ValueError, "size_bytes"),
        ({"size_bytes": 2**63}, ValueError, "size_bytes"),
        ({"size_bytes": 10**40}, ValueError, "size_bytes"),
        ({"size_bytes": 1.0}, TypeError, "size_bytes"),
        ({"size_bytes": "1"}, TypeError, "size_bytes"),
        ({"size_bytes": True}, TypeError, "size_bytes"),
        ({"size_bytes": None}, TypeError, "size_bytes"),
        ({"priority": -0.01}, ValueError, "priority"),
        ({"priority": 1.01}, ValueError, "priority"),
        ({"priority": math.nan}, ValueError, "priority"),
        ({"priority": "high"}, TypeError, "priority"),
        ({"deadline_s": 0.0}, ValueError, "deadline_s"),
        ({"deadline_s": -1}, ValueError, "deadline_s"),
        ({"deadline_s": math.inf}, ValueError, "deadline_s"),
        ({"deadline_s": math.nan}, ValueError, "deadline_s"),
        ({"min_bandwidth_mbps": -1.0}, ValueError, "min_bandwidth_mbps"),
        ({"min_bandwidth_mbps": math.nan}, ValueError, "min_bandwidth_mbps"),
        ({"redundancy": 0}, ValueError, "redundancy"),
        ({"redundancy": 17}, ValueError, "redundancy"),
        ({"redundancy": 1.5}, TypeError, "redundancy"),
        ({"id": 7}, TypeError, "id"),
    ],
)
def test_bad_tasks(arguments, error, text):
    with pytest.raises(error, match=text):
        Task(**{"id": "a", "size_bytes": 10, **arguments})
