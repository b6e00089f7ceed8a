from collections.abc import Sequence

MIN_CHUNK_BYTES: int

def proportional(size_bytes: int, weights: Sequence[float], *, min_chunk_bytes: int = 1) -> list[int]: ...
def water_filling(
    size_bytes: int, rates_Bps: Sequence[float], delays_s: Sequence[float], *, min_chunk_bytes: int = 1
) -> list[int]: ...
def estimate_completion_s(
    chunk_sizes: Sequence[int], rates_Bps: Sequence[float], delays_s: Sequence[float]
) -> float: ...
