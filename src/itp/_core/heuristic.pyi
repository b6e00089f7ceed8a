POLICIES: tuple[str, ...]
DEFAULT_POLICIES: dict[str, str]
"""The rule that decides where no model does, by service order."""

def most_sets(n_streams: int) -> int: ...
