"""Error texts of other libraries in one line of ours."""

from __future__ import annotations

import pytest

from itp._util.messages import brief

SOURCE = "/onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:560"
MESSAGES = {
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. Name:'a' Status "
    f"Message: {SOURCE} void onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 || "
    "axis == largest was false. Attempting to broadcast an axis by a dimension other than 1. 3 by 5\n": (
        "Non-zero status code returned while running Add node. Name:'a' Status Message: axis == 1 || axis == "
        "largest was false. Attempting to broadcast an axis by a dimension other than 1. 3 by 5"
    ),
    "[ONNXRuntimeError] : 1 : FAIL : /a/b.cc:12 static onnxruntime::common::Status onnxruntime::F<T>::run("
    "const std::function<void(int, std::map<int, X>*)>&, int) const [with T = float] The cause (of it)": (
        "The cause (of it)"
    ),
    "[ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1657 SizeOf Out of bounds": "SizeOf Out of bounds",
    "no\tnoise\r\n  at all": "no noise at all",
    "\x1b[31mred\x07": "?[31mred?",
    "broken \ud800": "broken ?",
    "/a/b.cc:12 ": "/a/b.cc:12",
}


@pytest.mark.parametrize(("text", "expected"), MESSAGES.items())
def test_the_noise_goes_and_the_cause_stays(text, expected):
    assert brief(RuntimeError(text)) == expected


def test_both_ends_of_a_long_text_are_kept():
    text = "where it happened, " + "and on and on, " * 1000 + "and why"
    for most in (40, 400):
        found = brief(text, most)
        assert len(found) == most
        assert found.startswith(text[: most // 3])
        assert found.endswith(text[-most // 2 :])
        assert " ... " in found
    assert brief("x" * 400) == "x" * 400
    assert len(brief("x" * 401)) == 400


def test_an_error_without_text_has_its_name():
    assert brief(MemoryError()) == "MemoryError"


@pytest.mark.parametrize("piece", ["::a", "((", "()", "/", "a.h:1 x::y(", "\n", "(a)"])
def test_a_text_as_long_as_a_file_is_no_burden(piece):
    assert len(brief(f"a.h:1 x::y({piece * 2_000_000}")) <= 400
