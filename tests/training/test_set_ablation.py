"""The tables that say what the choices of the set models' trainer are worth."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")

from itp_training.config import TrainingConfig  # noqa: E402 (after the check for PyTorch)
from itp_training.sets.collect import Part, SetCollector  # noqa: E402
from itp_training.sets.config import SetConfig  # noqa: E402

SMALL: dict[str, Any] = {
    "streams": (4,),
    "envs": (4,),
    "batch_weights": (1.0,),
    "tasks": 15,
    "look_ahead_tasks": 5,
    "look_ahead_most": 10,
    "batch_size": 16,
    "widths": (16, 16, 16, 16),
    "validation_envs": 4,
}


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    """The script's module."""
    path = Path(__file__).parents[2] / "training" / "set_ablation.py"
    spec = importlib.util.spec_from_file_location("set_ablation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_ablation_prints_its_tables(ablation: ModuleType) -> None:
    base = SetConfig(**SMALL, rounds=1, updates=10)
    q_network = TrainingConfig(
        scenarios=("anything",), episodes=2, envs=2, tasks=10, updates=5, batch_size=8, teacher_episodes=1
    )
    lines = list(ablation.table(base, q_network, 1, 1))
    first = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert [name for name in first if name.startswith("schema")] == [
        "schema 2, typical", "schema 2, balanced", "schema 2, bulk", "schema 1",
    ]  # fmt: skip
    assert first[-2:] == ["pooling", "attention"]
    assert len({line.count("|") for line in lines[: lines.index("")]}) == 1


def test_attention_sees_no_absent_stream(ablation: ModuleType) -> None:
    config = SetConfig(**{**SMALL, "streams": (2,)}, look_ahead_share=1.0)
    decisions, _ = SetCollector(config, 1).collect(0, Part(2, "fifo"), None)
    network = ablation.AttentionNetwork((32, 16, 32, 16))
    torch.nn.init.normal_(network.out.weight)
    streams, context, candidates, members, _ = decisions.tensors()
    padded = torch.cat([streams, torch.randn(len(streams), 3, streams.shape[2])], dim=1)
    wider = torch.cat([members, torch.zeros(*members.shape[:2], 3)], dim=2)
    with torch.no_grad():
        values, same = (
            network(streams, context, candidates, members),
            network(padded, context, candidates, wider),
        )
    assert torch.allclose(values, same, atol=1e-5)
