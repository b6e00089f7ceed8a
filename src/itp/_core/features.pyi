STREAM_NAMES: tuple[str, ...]
CONTEXT_NAMES: tuple[str, ...]
CANDIDATE_NAMES: tuple[str, ...]
