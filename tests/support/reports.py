"""Made-up reports whose answers are known."""

import numpy as np

from itp.evaluation.configuration import Configuration
from itp.evaluation.metrics import METRICS, N_QUANTILES
from itp.evaluation.report import Report
from itp.evaluation.results import Timeline
from itp.sim.simulator import TIMELINE


def made_up(
    log_slowdowns, *, noise=0.1, scenarios=("lossy", "mixed"), reference=None, n_seeds=12, replicas=()
):
    """A report in which each policy has about this mean log slowdown everywhere."""
    policies = tuple(log_slowdowns)
    orders = ("fifo", "srpt")
    shape = (len(scenarios), len(orders), len(policies))
    generator = np.random.default_rng(0)
    level = np.array(list(log_slowdowns.values()))[:, None]
    figures = {
        name: level + noise * generator.normal(size=(*shape, n_seeds))
        if name == "log_slowdown"
        else generator.uniform(0.1, 1.0, size=(*shape, n_seeds))
        for name in METRICS
    }
    figures["failed"][:] = 0.0
    figures["deadlines_met"][0] = np.nan
    times = np.sort(generator.lognormal(size=(*shape, N_QUANTILES)), axis=-1)
    intervals = np.array(
        [(0, 0, 0.0, 1.0, 1e6), (1, 0, 0.0, 0.5, 2e6), (1, 1, 0.5, 2.0, 3e6)], dtype=TIMELINE
    )
    configuration = Configuration(
        scenarios=tuple(scenarios),
        about=tuple(f"about {name} <&>" for name in scenarios),
        tasks=(200,) * len(scenarios),
        service_orders=orders,
        policies=policies,
        replicas=tuple(replicas),
        seeds=tuple(range(1_000_000, 1_000_000 + n_seeds)),
        load=None,
        rate_scale=1.0,
        reference=reference,
        version="0.1.0",
        command="itp evaluate --seeds 12",
        duration_s=1.5,
    )
    return Report(
        configuration=configuration,
        figures=figures,
        completion_s=times,
        slowdown=times,
        timelines=tuple(
            Timeline.of(configuration, (0, o, p), intervals) for o in range(2) for p in range(len(policies))
        ),
    )
