POLICIES: tuple[str, ...]
AUTO: str
"""The name of the rule that measures best, whichever that is."""
DEFAULT_POLICIES: dict[str, str]
"""The best one of the rules that remember nothing, by service order."""

def most_sets(n_streams: int) -> int: ...
