"""HOST:PORT as people write it."""

import pytest

from itp.transport.io.addresses import format_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:7411", ("::1", 7411)),
        ("name.example:0", ("name.example", 0)),
        ("name.example", ("name.example", 99)),
        ("[fe80::1]", ("fe80::1", 99)),
    ],
)
def test_parse(text, address):
    assert parse_address(text, 99) == address
    assert parse_address(format_address(*address)) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "h:", "h:x", "h:65536", "h:-1", "::1:5", "[::1", "[::1]x", "[]:1", "h:²"]
)
def test_malformed(text):
    with pytest.raises(ValueError, match="expected"):
        parse_address(text, 99)


def test_a_port_may_be_required():
    with pytest.raises(ValueError, match="port"):
        parse_address("host")
