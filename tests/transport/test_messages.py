"""Names of files and reasons of failures as they travel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp.errors import TransportError
from itp.transport.protocol import messages
from itp.transport.protocol.frames import MAX_TEXT
from itp.transport.protocol.messages import FileRefused


@given(st.text())
def test_a_reason_is_bounded_and_fit_for_a_terminal(text):
    body = messages.encode_reason(text)
    assert len(body) <= MAX_TEXT
    assert messages.decode_reason(body).isprintable()


@pytest.mark.parametrize("name", ["a", "a file é.bin", ".hidden", "..x", "x" * 255, "日本"])
def test_a_plain_name_arrives_as_it_is(name):
    assert messages.decode_name(messages.encode_name(name)) == name


@given(st.text(st.characters()) | st.text("./\\\0ab"))
def test_a_name_that_is_accepted_is_one_plain_component(name):
    try:
        decoded = messages.decode_name(messages.encode_name(name))
    except FileRefused:
        return
    assert decoded == name
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0\n\x1b")
    assert len(name.encode()) <= 255


def test_a_name_that_fits_into_no_frame_is_an_error_of_the_sender():
    assert len(messages.encode_name("x" * MAX_TEXT)) == MAX_TEXT
    with pytest.raises(TransportError, match="too long"):
        messages.encode_name("x" * (MAX_TEXT + 1))
