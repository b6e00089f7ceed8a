"""Error texts of other libraries, fit for one line of ours."""

from __future__ import annotations

import re

from itp._util.terminal import printable

_MOST = 400
_READ = 4000
"""Characters at either end of a text that are looked at: names within it may be as long as a file."""

_PARENTHESES = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "
    # The line of C++ that raised the error, and the signature of its function.
    rf"|\S*\.(?:h|hpp|cc|cpp):\d+ (?:[\w:<>,&*~ ]*::~?\w+{_PARENTHESES}(?: const)?(?: \[with [^]]*\])? )?"
)


def brief(error: object, most: int = _MOST) -> str:
    """The text of an error, or any other, in one printable line of at most `most` characters.

    Of a longer text both ends are kept, the second one longer: libraries begin with the place of an error
    and end with its cause. Source lines and C++ signatures are left out.
    """
    text = str(error) or type(error).__name__
    if len(text) > 2 * _READ:
        text = f"{text[:_READ]} ... {text[-_READ:]}"
    text = printable(" ".join(text.split()))
    text = _NOISE.sub("", text) or text
    if len(text) <= most:
        return text
    head = most // 3
    return f"{text[:head]} ... {text[head + 5 - most :]}"
