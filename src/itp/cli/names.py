"""Names that are chosen from a list."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from itp import baselines
from itp.cli import UsageError
from itp.model import shipped_models
from itp.policies import is_model, model_of


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """UsageError unless the name is known; the text says which ones are, and which may be meant."""
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"{option} {name}: {hint}there are {', '.join(known)}")


def check_policy(option: str, spec: str) -> None:
    """UsageError unless the text names a policy, or a model that is there."""
    if not is_model(spec):
        check_name(option, spec, (*baselines.NAMES, *shipped_models()))
    elif (path := model_of(spec)) not in shipped_models() and not os.path.isfile(path):
        raise UsageError(f"{option} {spec}: no such file")
