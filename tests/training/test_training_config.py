"""Configurations: complete, checked once, the same after a round trip."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from itp_training.config import PRESETS, TrainingConfig, preset
from itp_training.errors import ConfigError

OTHER = TrainingConfig(
    service_order="srpt",
    seed=7,
    scenarios=("lossy", "my.toml"),
    load=(0.5, 0.5),
    hidden=(32,),
    batch_norm=True,
    gamma=0.9,
    epsilon=(1.0, 0.05),
)


def text(value: object) -> str:
    """As one writes it on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("config", [*map(preset, PRESETS), OTHER])
def test_round_trip(config: TrainingConfig) -> None:
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    texts = {field.name: text(getattr(config, field.name)) for field in fields(config)}
    assert TrainingConfig().with_text(texts) == config


def test_settings_that_only_make_sense_together() -> None:
    changed = preset("mission").with_text({"td_weight": "0", "look_ahead_share": "0.5"})
    assert (changed.td_weight, changed.look_ahead_share) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_order", "lifo"),
        ("objective", "profit"),
        ("seed", -1),
        ("seed", 1.0),
        ("episodes", 0),
        ("episodes", True),
        ("tasks", 10**9),
        ("gamma", 1.01),
        ("gamma", float("nan")),
        ("gamma", "1"),
        ("learning_rate", 0.0),
        ("load", (0.9, 0.3)),
        ("load", (0.3,)),
        ("epsilon", (0.1, 1.1)),
        ("scenarios", ()),
        ("hidden", ()),
        ("hidden", (0,)),
        ("hidden", (8,) * 9),
        ("batch_norm", 1),
        ("dropout", 0.95),
        ("teacher_episodes", -1),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("tasks", "1e3", "tasks = '1e3': expected a value like 200"),
        ("batch_norm", "yes", "batch_norm = 'yes'"),
        ("hidden", "64,", "hidden = '64,'"),
        ("gamma", "", "gamma = ''"),
        ("gama", "1", "no such setting: gama; there are: .*gamma"),
    ],
)
def test_a_wrong_text_is_refused_by_name(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainingConfig().with_text({name: value})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="no such setting: beat, gama"):
        TrainingConfig.from_dict({"gama": 1.0, "beat": 0.4})
    with pytest.raises(ConfigError, match="no preset is named 'fast'"):
        preset("fast")


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to learn from"):
        TrainingConfig(td_weight=0.0, look_ahead_share=0.0)
