"""Names of models with options behind them."""

from __future__ import annotations

import pytest

from itp.models.spec import ModelSpec, is_model, parse

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dqn_v1", ModelSpec(model="dqn_v1")),
        ("set_v2:typical", ModelSpec(model="set_v2", prefer="typical")),
        ("default:prefer=0.25", ModelSpec(model="default", prefer=0.25)),
        ("a/b.onnx:prefer=1e-2:no-guard", ModelSpec(model="a/b.onnx", prefer=0.01, guard=False)),
        (
            "m.onnx:soft-deadlines:bulk",
            ModelSpec(model="m.onnx", prefer="bulk", hard_deadlines=False),
        ),
        ("m.onnx:no-guard:hard-deadlines", ModelSpec(model="m.onnx", guard=False, hard_deadlines=True)),
        ("C:\\models\\m.onnx:bulk", ModelSpec(model="C:\\models\\m.onnx", prefer="bulk")),
        ("odd:typical:name.onnx", ModelSpec(model="odd:typical:name.onnx")),
        (":bulk", ModelSpec(model="", prefer="bulk")),
        ("", ModelSpec(model="")),
    ],
)
def test_parts(text, expected):
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "m:prefer=",
        "m:prefer=x",
        "m:prefer=-0.1",
        "m:prefer=1.5",
        "m:prefer=nan",
        "m:prefer=inf",
        "m:typical:bulk",
        "m:bulk:bulk",
        "m:prefer=0.5:balanced",
        "m:no-guard:no-guard",
        "m:hard-deadlines:soft-deadlines",
    ],
)
def test_options_that_are_wrong(text):
    with pytest.raises(ValueError, match="expected"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("dqn_v1", True),
        ("dqn_v1:no-guard", True),
        ("default:bulk", True),
        ("any/where.onnx:prefer=nonsense", True),
        ("dqn_v2", False),
        ("pull", False),
        ("pull:bulk", False),
        ("where.onnx:other", False),
        ("", False),
    ],
)
def test_what_names_a_model(text, known):
    assert is_model(text) == known
