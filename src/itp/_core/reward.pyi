from typing import final

@final
class RewardWeights:
    def __init__(
        self,
        *,
        throughput: float = 1.0,
        latency: float = 0.5,
        imbalance: float = 0.3,
        completion: float = 2.0,
        retransmission: float = 1.0,
    ) -> None: ...
    @property
    def throughput(self) -> float: ...
    @property
    def latency(self) -> float: ...
    @property
    def imbalance(self) -> float: ...
    @property
    def completion(self) -> float: ...
    @property
    def retransmission(self) -> float: ...
    def as_dict(self) -> dict[str, float]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def terms(
    *,
    size_bytes: int,
    reference_time_s: float,
    throughput_mbps: float,
    latency_s: float,
    success: bool,
    retransmitted_bytes: int = 0,
    imbalance: float = 0.0,
) -> dict[str, float]: ...
def reward(weights: RewardWeights, **outcome: float) -> float: ...
