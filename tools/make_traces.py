"""Make the synthetic traces and the synthetic table of regions that come with the package.

python tools/make_traces.py        # writes traces.csv and regions.csv into src/itp/sim/scenario/families
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np

TO = Path(__file__).parent.parent / "src" / "itp" / "sim" / "scenario" / "families"
SEED = 20240607
N_TRACES, SECONDS = 24, 60

# Cities with large data centres: name, latitude, longitude in degrees.
CITIES = (
    ("ashburn", 39.0, -77.5),
    ("portland", 45.5, -122.7),
    ("sao-paulo", -23.5, -46.6),
    ("london", 51.5, -0.1),
    ("frankfurt", 50.1, 8.7),
    ("stockholm", 59.3, 18.1),
    ("johannesburg", -26.2, 28.0),
    ("dubai", 25.2, 55.3),
    ("mumbai", 19.1, 72.9),
    ("singapore", 1.35, 103.8),
    ("tokyo", 35.7, 139.7),
    ("sydney", -33.9, 151.2),
)
EARTH_KM = 6371.0
FIBRE_KM_PER_MS = 299.792 / 1.468  # one way, in glass
DETOUR = 1.5  # length of a cable's way over the great circle's


def trace(rng: np.random.Generator) -> np.ndarray:
    """Rates around 1, second by second: three states of a Markov chain, log-normal about each one's level."""
    levels = np.array([1.3, 0.8, 0.25]) * np.exp(0.2 * rng.standard_normal(3))
    stay = np.array([0.93, 0.88, 0.8])
    sigma = rng.uniform(0.08, 0.3)
    state, x = int(rng.integers(3)), 0.0
    rates = []
    for _ in range(SECONDS):
        if rng.random() > stay[state]:
            state = int((state + 1 + rng.integers(2)) % 3)
        x = 0.7 * x + math.sqrt(1 - 0.7**2) * sigma * rng.standard_normal()
        rates.append(levels[state] * math.exp(x))
    return np.array(rates)


def great_circle_km(a: tuple[str, float, float], b: tuple[str, float, float]) -> float:
    """The haversine formula."""
    (lat_a, lon_a), (lat_b, lon_b) = (np.radians(city[1:]) for city in (a, b))
    h = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(h))


def main() -> None:
    """Write both files."""
    rng = np.random.default_rng(SEED)
    lines = [
        "# Synthetic, by tools/make_traces.py: Markov-modulated log-normal rates; only their shape counts.",
        "trace,t_s,mbit",
    ]
    for k in range(N_TRACES):
        lines += [f"{k + 1},{t},{rate:.3f}" for t, rate in enumerate(50 * trace(rng))]
    (TO / "traces.csv").write_text("\n".join(lines) + "\n")
    lines = [
        f"# Synthetic, by tools/make_traces.py: great circle in fibre, times {DETOUR}; rates fall with it.",
        "src_region,dst_region,rate_mbit,rtt_ms",
    ]
    for a, b in itertools.permutations(CITIES, 2):
        rtt_ms = 2 * DETOUR * great_circle_km(a, b) / FIBRE_KM_PER_MS + 1
        rate = 4000 * (rtt_ms / 50) ** -0.5 * math.exp(0.5 * rng.standard_normal())
        lines.append(f"{a[0]},{b[0]},{rate:.0f},{rtt_ms:.1f}")
    (TO / "regions.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
