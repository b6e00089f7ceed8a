"""Names of policies, checked."""

from __future__ import annotations

import os

from itp._util.command import UsageError, check_name
from itp.models.load import shipped_models
from itp.policies.names import NAMES
from itp.policies.served import is_model, model_of


def check_policy(option: str, spec: str) -> None:
    """UsageError unless the text names a policy, or a model that is there."""
    if not is_model(spec):
        check_name(option, spec, (*NAMES, *shipped_models()))
    elif (path := model_of(spec)) not in shipped_models() and not os.path.isfile(path):
        raise UsageError(f"{option} {spec}: no such file")
