"""The check ``core``: what ITP costs the process that uses it, beside the libraries that do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from figures import slow_disk, updates
from figures.figure import Bound, Figure, Progress, at_least, at_most, number
from itp.models.load import Model, load_model
from itp_overhead import batches, decisions, memory, replay, simulation, startup
from itp_overhead.load import NotMeasured

MODEL = "dqn_v1"
BATCH = 1024
UPDATES = (32, 256)
STORED = 1_000_000
_CALLS = 20_000
_AVX512_ALONE = "asked of processors with AVX-512 alone"

# Seconds to measure in: in full, and quick.
_DECISIONS_S = (45.0, 6.0)
_BATCHES_S = (6.0, 1.0)
_MEMORY_S = (20.0, 1.0)
_REPLAY_S = (20.0, 3.0)
_SIMULATOR_S = (20.0, 3.0)
_UPDATES_S = (30.0, 5.0)
_SLOW_DISK_S = (10.0, 3.0)


def measure(*, quick: bool, progress: Progress) -> list[Figure]:
    """All figures of the check, measured one after the other."""
    model = load_model(MODEL)
    k = int(quick)
    # Processes first, while this one holds nothing yet.
    imports = list(_startup(progress))
    memories = list(_memory(model, _MEMORY_S[k], progress))
    reports = list(_slow_disk(_SLOW_DISK_S[k], progress))
    return [
        *_decisions(model, _DECISIONS_S[k], progress),
        *reports,
        *_batches(model, _BATCHES_S[k], progress),
        *memories,
        *imports,
        *_replay(_REPLAY_S[k], progress),
        *_simulator(_SIMULATOR_S[k], progress),
        *_updates(_UPDATES_S[k], progress),
    ]


def _where_avx512(model: Model, bound: Bound) -> tuple[Bound | None, str]:
    """The bound and a note, which depend on the kernel that this processor runs."""
    if model.net is not None and model.net.kernel == "avx512":
        return bound, ""
    return None, _AVX512_ALONE


def _decisions(model: Model, seconds: float, progress: Progress) -> Iterator[Figure]:
    conditions = (decisions.IDLE, decisions.ONE_BUSY, decisions.FOUR_BUSY)
    found = decisions.measure(model, seconds=seconds, calls=_CALLS, conditions=conditions, progress=progress)
    idle, one_busy, four_busy = (found.condition(name) for name in conditions)
    native, bare = idle.of(decisions.NATIVE), idle.of(decisions.BARE)
    forward, onnxruntime = idle.of(decisions.FORWARD), idle.of(decisions.ONNXRUNTIME)
    heuristic = idle.of(decisions.HEURISTIC)
    # The shipped model has all of them.
    assert native is not None
    assert bare is not None
    assert forward is not None
    assert onnxruntime is not None
    assert heuristic is not None
    yield Figure(
        name="decision_p50",
        about="a decision with the model, native engine, median",
        value=native.p50_us,
        unit="us",
    )
    yield Figure(
        name="decision_per_bare_run",
        about="that / a bare InferenceSession.run of one state",
        value=native.p50_us / bare.p50_us,
        unit="x",
        asked=at_most(0.35),
        note=f"the bare run takes {number(bare.p50_us)} us",
    )
    yield Figure(
        name="decision_p99_per_p50",
        about="its 99th percentile / its median, idle",
        value=_per(native.quantile_us(0.99), native.p50_us),
        unit="x",
        asked=at_most(3.0),
    )
    yield Figure(
        name="decision_p99_one_busy_thread",
        about="its 99th percentile beside a busy thread",
        value=_p99_us(one_busy, decisions.NATIVE),
        unit="us",
        asked=at_most(50.0),
        note=_bare_run_p99(one_busy),
    )
    yield Figure(
        name="decision_p99_four_busy_threads",
        about="its 99th percentile beside four busy threads, less an empty call's",
        value=_less(_p99_us(four_busy, decisions.NATIVE), _p99_us(four_busy, decisions.NOTHING)),
        unit="us",
        asked=at_most(100.0),
        note=_bare_run_p99(four_busy),
    )
    yield Figure(
        name="onnxruntime_decision_per_bare_run",
        about="a decision, onnxruntime engine / a bare run",
        value=onnxruntime.p50_us / bare.p50_us,
        unit="x",
        asked=at_most(1.3),
    )
    yield Figure(
        name="heuristic_decision_per_bare_run",
        about="a decision without a model / a bare run",
        value=heuristic.p50_us / bare.p50_us,
        unit="x",
        asked=at_most(0.25),
        note=f"it takes {number(heuristic.p50_us)} us",
    )
    asked, note = _where_avx512(model, at_most(1.3))
    yield Figure(
        name="forward_pass",
        about="the compiled forward pass alone, one state, median",
        value=forward.p50_us,
        unit="us",
        asked=asked,
        note=note,
    )


def _p99_us(condition: decisions.Condition, subject: str) -> float | None:
    timing = condition.of(subject)
    return None if timing is None else timing.quantile_us(0.99)


def _bare_run_p99(condition: decisions.Condition) -> str:
    value_us = _p99_us(condition, decisions.BARE)
    return "" if value_us is None else f"the bare run's: {number(value_us)} us"


def _slow_disk(seconds: float, progress: Progress) -> Iterator[Figure]:
    progress("report_outcome beside a disk that blocks")
    value_us, note = None, ""
    try:
        found = slow_disk.measure(seconds=seconds)
        value_us = found.reports.quantile_us(0.99)
        note = (
            f"{found.reports.calls:,} reports, the worst {number(found.reports.worst_us)} us; "
            f"the disk blocked {found.blocked} times"
        )
    except NotMeasured as why:
        note = str(why)
    yield Figure(
        name="report_p99_slow_disk",
        about="report_outcome, 99th percentile, its log on a disk that blocks for 1 s at each write",
        value=value_us,
        unit="us",
        asked=at_most(50.0),
        note=note,
    )


def _batches(model: Model, seconds: float, progress: Progress) -> Iterator[Figure]:
    (batch,) = batches.measure(model, seconds=seconds, sizes=(BATCH,), progress=progress).batches
    rates = {timing.name: batch.states_per_s(timing) for timing in batch.timings}
    asked, note = _where_avx512(model, at_least(1.5e6))
    yield Figure(
        name="batch_states",
        about=f"q_values of {BATCH:,} states",
        value=rates[batches.Q_VALUES],
        unit="states/s",
        asked=asked,
        note=note or f"onnxruntime: {number(rates[decisions.BARE])}",
    )


def _memory(model: Model, seconds: float, progress: Progress) -> Iterator[Figure]:
    found = memory.measure(model, seconds=seconds, progress=progress)
    yield Figure(
        name="memory",
        about="library, model and 10,000 experiences, on top of Python with NumPy",
        value=found.added_mb,
        unit="MB",
        asked=at_most(50.0),
    )
    yield Figure(
        name="memory_growth",
        about="more blocks of memory that Python holds after many decisions",
        value=float(found.grown_blocks),
        unit="blocks",
        asked=at_most(100.0),
        note=f"{found.decisions:,} decisions; resident set {found.grown_mb:+.1f} MB",
    )


def _startup(progress: Progress) -> Iterator[Figure]:
    found = startup.measure(progress)
    yield Figure(
        name="import_on_numpy",
        about="import itp, on top of NumPy",
        value=found.itp_median_ms,
        unit="ms",
        asked=at_most(25.0),
    )
    yield Figure(
        name="import_total",
        about="import itp with NumPy",
        value=found.total_median_ms,
        unit="ms",
        asked=at_most(120.0),
    )


def _replay(seconds: float, progress: Progress) -> Iterator[Figure]:
    found = replay.measure(
        seconds=seconds,
        calls=_CALLS,
        stored=STORED,
        only=(replay.ITP, replay.CPPRB),
        progress=progress,
    )
    for name, call, bound in (("buffer_add", replay.ADD, 10.0), ("buffer_cycle", replay.CYCLE, 5.0)):
        itp_us = found.median_us(call, replay.ITP)
        peer_us = found.median_us(call, replay.CPPRB)
        yield Figure(
            name=f"{name}_speed_up",
            about=f"replay buffer of 10^6, {call}: times as fast as cpprb",
            value=_per(peer_us, itp_us),
            unit="x",
            asked=at_least(bound),
            note=f"cpprb: {found.absent[replay.CPPRB]}" if peer_us is None else f"{_shown_us(itp_us)}",
        )


def _simulator(seconds: float, progress: Progress) -> Iterator[Figure]:
    found = simulation.measure(seconds=seconds, progress=progress)
    yield Figure(
        name="simulated_decisions",
        about=f"simulated on one core: mixed, load 0.6, fifo, {simulation.N_ENVS:,} environments",
        value=found.random_per_s,
        unit="decisions/s",
        asked=at_least(1e6),
        note=f"random actions; least completion time: {number(found.least_completion_time_per_s)}",
    )
    yield Figure(
        name="experiences_per_step",
        about="reading a step's experiences / the step itself",
        value=found.experiences_share,
        unit="x",
        asked=at_most(0.25),
    )


def _updates(seconds: float, progress: Progress) -> Iterator[Figure]:
    progress("updates of the learner and of Stable-Baselines3")
    times_us, note = {}, ""
    try:
        times_us = updates.measure(UPDATES, seconds=seconds)
    except NotMeasured as why:
        note = str(why)
    for size, bound in zip(UPDATES, (None, at_least(3.0)), strict=True):
        of_size = times_us.get(size, {})
        itp_us, peer_us = of_size.get(updates.ITP), of_size.get(updates.PEER)
        yield Figure(
            name=f"update_{size}_speed_up",
            about=f"an update of the learner, batch of {size}: times as fast as Stable-Baselines3",
            value=_per(peer_us, itp_us),
            unit="x",
            asked=bound,
            note=note or _shown_us(itp_us),
        )


# --- arithmetic with what may not have been measured ---


def _either(operation: Callable[[float, float], float], a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else operation(a, b)


def _per(a: float | None, b: float | None) -> float | None:
    return _either(lambda x, y: x / y, a, b)


def _less(a: float | None, b: float | None) -> float | None:
    return _either(lambda x, y: x - y, a, b)


def _shown_us(value_us: float | None) -> str:
    return "not measured" if value_us is None else f"{number(value_us)} us"
