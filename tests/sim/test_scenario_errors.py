"""Scenario files that are wrong: each is refused by name, and nothing in a file is a traceback."""

import contextlib
import copy
import gzip
import json
import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itp import ScenarioError
from itp.sim.scenario import load

pytestmark = pytest.mark.core

RATE = {"rate_mbit": 10}


def one(**keys):
    return {"paths": [RATE, {**RATE, **keys}]}


def asked(**keys):
    return {"paths": [RATE], "workload": keys}


BAD = [
    # unknown and missing
    ({}, "paths is missing"),
    ({"paths": []}, "paths = []: expected a list of 1 to 16 paths"),
    ({"paths": {}}, "paths = {}: expected"),
    ({"paths": [RATE] * 17}, "1 to 16 paths"),
    ({"paths": [3]}, "paths[1] = 3: expected a table"),
    ({"paths": [RATE, {"rtt_ms": 5}]}, "paths[2]: rate_mbit is missing"),
    (one(rate_mbt=3), "paths[2].rate_mbt: unknown key; did you mean 'rate_mbit'?"),
    (one(zzzzzz=3), "paths[2].zzzzzz: unknown key; known here: ab,"),
    ({"pahts": [], "paths": [RATE]}, "scenario: pahts: unknown key; did you mean 'paths'?"),
    ({1: 2, "paths": [RATE]}, "1: unknown key"),
    (asked(laod=1), "workload.laod: unknown key; did you mean 'load'?"),
    (one(noise={"sd": 0.1}), "paths[2].noise: tau_s is missing"),
    (one(ab={"ab": {}}), "paths[2].ab.ab: unknown key"),
    # numbers
    (one(rate_mbit=-5), "paths[2].rate_mbit = -5: expected Mbit/s > 0"),
    (one(rate_mbit=0), "paths[2].rate_mbit = 0: expected Mbit/s > 0"),
    (one(rate_mbit="5"), "paths[2].rate_mbit = '5': expected Mbit/s > 0"),
    (one(rate_mbit=True), "paths[2].rate_mbit = True"),
    (one(rate_mbit=None), "paths[2].rate_mbit = None"),
    (one(rate_mbit=math.nan), "paths[2].rate_mbit = nan"),
    (one(rate_mbit=math.inf), "paths[2].rate_mbit = inf"),
    (one(rate_mbit=10**400), "paths[2].rate_mbit"),
    (one(rate_mbit=10**5000), "paths[2].rate_mbit"),
    (one(rate_mbit=1e7), "<= 1e+06"),
    (one(rtt_ms=-1), "paths[2].rtt_ms = -1: expected ms >= 0"),
    (one(loss_pct=100), "paths[2].loss_pct = 100: expected percent >= 0 and < 100"),
    (one(load=1), "paths[2].load = 1"),
    (one(ge={"loss_pct": 1, "burst_packets": 0.5}), "paths[2].ge.burst_packets = 0.5"),
    (one(burst_ms=[1]), "paths[2].burst_ms = [1]: expected [mean on, mean off]"),
    (one(burst_ms=[0, 5]), "paths[2].burst_ms[1] = 0"),
    (one(cc="reno"), 'paths[2].cc = \'reno\': expected "cubic" or "bbr"'),
    (one(cc={"choice": ["bbr", "x"]}), "paths[2].cc.choice[2] = 'x'"),
    (one(cc={"uniform": [0, 1]}), "paths[2].cc"),
    (one(rate_mbit={"uniform": [5, 1]}), "paths[2].rate_mbit.uniform = [5, 1]: expected [lowest, highest]"),
    (one(rate_mbit={"uniform": [0, 1]}), "paths[2].rate_mbit.uniform[1] = 0"),
    (one(rtt_ms={"log_uniform": [0, 1]}), "with lowest > 0"),
    (one(rate_mbit={"choice": []}), "paths[2].rate_mbit.choice = []"),
    (one(rate_mbit={"normal": [1, 2]}), "paths[2].rate_mbit.normal: unknown key"),
    (one(rate_mbit={"uniform": [1, 2], "choice": [1]}), "paths[2].rate_mbit"),
    (one(rate_mbit={}), "paths[2].rate_mbit = {}: expected a number, {uniform"),
    ({"defaults": {"rtt_ms": "x"}, "paths": [RATE]}, "defaults.rtt_ms = 'x'"),
    (one(ba={"delay_ms": -1}), "paths[2].ba.delay_ms = -1"),
    # contradictions
    (one(rtt_ms=1, delay_ms=1), "paths[2].delay_ms: contradicts rtt_ms"),
    (one(queue_ms=1, queue_bytes=9999), "paths[2].queue_bytes: contradicts queue_ms"),
    ({"defaults": {"delay_ms": 1}, **one(rtt_ms=3)}, "paths[2].rtt_ms: contradicts delay_ms"),
    (
        {"paths": [RATE], "shared": [{"paths": [1], **RATE}, {"paths": [1], **RATE}]},
        "shared[2].paths[1]: path 1 already",
    ),
    ({"paths": [RATE], "shared": [{"paths": [1, 1], **RATE}]}, "shared[1].paths"),
    (
        {"paths": [RATE], "shared": [{"paths": [2], **RATE}]},
        "shared[1].paths[1] = 2: expected the number of a path",
    ),
    ({"paths": [RATE], "shared": [{"paths": [0], **RATE}]}, "shared[1].paths[1] = 0"),
    ({"paths": [RATE], "shared": [{"paths": [1]}]}, "shared[1]: rate_mbit is missing"),
    ({"paths": [RATE], "shared": [RATE]}, "shared[1]"),
    ({"paths": [RATE], "shared": [{"paths": [1], **RATE, "rtt_ms": 3}]}, "shared[1].rtt_ms: unknown key"),
    ({"paths": [RATE], "background": [{"path": 2}]}, "background[1].path = 2"),
    ({"paths": [RATE], "background": [{}]}, "background[1]: path is missing"),
    (
        {"paths": [RATE], "background": [{"path": 1, "cc": "bbr", "udp_mbit": 1}]},
        "background[1].cc: contradicts udp_mbit",
    ),
    (
        {"paths": [RATE], "background": [{"path": 1}, {"path": 1, "start_s": 1}]},
        "background[2]: flows over one link",
    ),
    ({"paths": [RATE], "n_streams": 2}, "n_streams = 2: expected 1, the number of paths"),
    ({"n_streams": 17}, "n_streams = 17"),
    ({"paths": [{"rtt_ms": 1}], "total_mbit": 5, "shared": [{"paths": [1], **RATE}]}, "total_mbit"),
    # schedules and outages
    (one(schedule=[]), "paths[2].schedule = []"),
    (
        one(schedule=[[0, 1], [0, 2]]),
        "paths[2].schedule: row 2 at 0 s follows 0 s: expected at least 1 ms more",
    ),
    (one(schedule=[[0, 1], [5, 2], [4, 2]]), "row 3 at 4 s follows 5 s"),
    (one(schedule=[[0, -1]]), "paths[2].schedule[1][2] = -1: expected Mbit/s >= 0"),
    (one(schedule=[[0, 0]]), "carries nothing"),
    (one(schedule=[[0, 1, 1, 1, 1]]), "paths[2].schedule[1][5] = 1"),
    (one(schedule=[[0, 1, 1, 1, 0, 1]]), "paths[2].schedule[1]"),
    (one(schedule=[[{"uniform": [0, 1]}, 1]]), "a distribution cannot stand here"),
    (one(schedule=[[0, 1], [5, 2]], loop_s=5), "ends before loop_s = 5"),
    (one(schedule=[[1, 1], [2, 2]], loop_s=5), "begins at 0"),
    (one(loop_s=5), "paths[2]: loop_s needs a schedule"),
    (one(schedule="nowhere"), "paths[2].schedule = 'nowhere': expected a file"),
    (one(schedule="a\0b"), "paths[2].schedule"),
    (one(trace="nowhere"), "paths[2].trace: contradicts rate_mbit"),
    (one(trace_starts=3), "trace_starts needs a trace"),
    ({"paths": [{"trace": "nowhere"}]}, "paths[1].trace = 'nowhere': expected a file"),
    ({"paths": [{"trace": "x" * 5000}]}, "paths[1].trace"),
    ({"paths": [{"schedule": [[0, 1]], "ab": RATE}]}, "needs rate_mbit as well"),
    (
        {"paths": [{"rate_mbit": {"uniform": [1, 2]}, "schedule": [[0], [1, 3]], "loop_s": 2}]},
        "the first row of a looped schedule must say rate_mbit",
    ),
    (one(outages=[[1, 0]]), "paths[2].outages[1][2] = 0"),
    (one(outages=[[1]]), "paths[2].outages[1] = [1]"),
    (one(outages=[[1, 1]] * 65), "at most 64"),
    (one(outages=[[1, 3]], outage_period_s=3.5), "must end within outage_period_s"),
    (one(outages=[[0, 3]], outage_period_s=3), "leave some of it"),
    (one(outage_period_s=3), "outage_period_s needs outages"),
    # workload and the rest
    (asked(load=0), "workload.load = 0: expected a fraction of the capacity >= 1e-06"),
    (asked(load=-1), "workload.load = -1"),
    (asked(arrivals="uniform"), "workload.arrivals"),
    (asked(size=5), "workload.size = 5: expected a table with kind"),
    (asked(size={"kind": "weibull"}), "workload.size.kind = 'weibull'"),
    (asked(size={"kind": "pareto", "shape": 1}), "workload.size: min_bytes is missing"),
    (asked(size={"kind": "fixed", "bytes": 1e20}), "workload.size.bytes"),
    (asked(size={"kind": "log_uniform", "min_bytes": 9, "max_bytes": 5}), "must not exceed max_bytes"),
    (asked(size={"kind": "fixed", "bytes": 9, "shape": 1}), "workload.size.shape: unknown key"),
    (asked(priority=[1, 0]), "workload.priority = [1, 0]"),
    (asked(deadline={"share": 0.5}), "workload.deadline: low is missing"),
    (asked(deadline={"share": 0.5, "low": 3, "high": 2}), "workload.deadline: low (3) must not exceed"),
    (asked(warm=1), "workload.warm = 1: expected true or false"),
    (asked(tasks=[[1, 5], [0, 5]]), "workload.tasks[2]: time runs backwards"),
    (asked(tasks=[[1, 5]], load=1), "workload.load: contradicts the list of tasks"),
    (asked(tasks=[]), "workload.tasks = []"),
    ({"paths": [RATE], "tasks": 0}, "tasks = 0: expected tasks an episode"),
    ({"paths": [RATE], "tasks": 2, **asked(tasks=[[0, 5]])}, "tasks = 2"),
    ({"paths": [RATE], "mtu": 100}, "mtu = 100"),
    ({"paths": [RATE], "seed": -1}, "seed = -1"),
    ({"paths": [RATE], "service_order": "lifo"}, 'service_order = \'lifo\': expected "fifo" or "srpt"'),
    ({"paths": [RATE], "stealing": "yes"}, "stealing = 'yes'"),
    ({"paths": [RATE], "name": ""}, "name = ''"),
    ({"paths": [RATE], "sysctl": [1]}, "sysctl"),
    ({"families": []}, "families = []"),
    ({"families": ["homogeneous", "nowhere"]}, "nowhere: no such file"),
    (
        {"families": ["homogeneous"], "paths": [RATE]},
        "paths: a mixture of families leaves this to its members",
    ),
]


@pytest.mark.parametrize(("tables", "text"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_refused(tables, text):
    with pytest.raises(ScenarioError, match=re.escape(text)) as caught:
        load(tables)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.toml", b"paths = [", "expected TOML"),
        ("a.toml", b"\xff\xfe", "UTF-8"),
        ("a.toml", b"a = " + b"[" * 5000, "expected TOML"),
        ("a.toml", b"[[paths]]\nrate_mbit = nan", "paths[1].rate_mbit = nan"),
        ("a.toml", b"[[paths]]\nrate_mbit = 1979-05-27", "paths[1].rate_mbit"),
        ("a.json", b"", "expected JSON"),
        ("a.json", b"[" * 100000, "expected JSON"),
        ("a.json", b"[1]", "expected a table of keys and values"),
        ("a.json", b'{"seed": 1, "seed": 2}', "'seed' stands twice"),
        ("a.json", b'{"seed": ' + b"9" * 5000 + b"}", "expected"),
        ("a.json", b'{"paths": [{"rate_mbit": Infinity}]}', "paths[1].rate_mbit = inf"),
        ("a.json", b" " * (17 * 2**20), "at most 16 MiB"),
    ],
)
def test_bad_files(tmp_path, name, data, text):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ScenarioError, match=re.escape(text)) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path):
    for source in (tmp_path, tmp_path / "none", "homogenous", "a\0b", "x" * 5000):
        with pytest.raises(ScenarioError, match="no such file"):
            load(source)
    for source in (None, 3, [RATE]):
        with pytest.raises(TypeError, match="source"):
            load(source)


GZIP = gzip.compress(b"0,1\n1,2\n" * 500)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"t,mbit\n", "only a heading"),
        (b"0,0\n1,0\n", "carries something"),
        (b"0,1\n0,2\n", "line 2: 0 s follows 0 s"),
        (b"t,mbit\n0,1\n3,2\n2,2\n", "line 4: 2 s follows 3 s"),
        (b"0,1\n1,-2\n", "line 2: '-2': expected Mbit/s >= 0"),
        (b"0,1\n1,nan\n", "line 2: 'nan'"),
        (b"0,1\n1,x\n", "line 2: 'x'"),
        (b"0,1\n1\n", "line 2"),
        (b"0,1\n", "at least two rows"),
        (b"0,1,2,3\n", "line 1: expected columns"),
        (b"0,1\n1e9,1\n", "at most 1e+07 s"),
        (b"5\n4\n", "line 2: time runs backwards"),
        (b"5\n-4\n", "line 2: '-4'"),
        (b"5.5\n", "whole milliseconds"),
        (b"0\n0\n", "1 ms to"),
        (b"9999999999\n", "1 ms to"),
        (b"5 6\n", "line 1: '5 6'"),
        (b"\x00\xff\x00", "UTF-8"),
        (GZIP[:-20], "cannot be read"),
        (GZIP[:30] + b"xxxx" + GZIP[34:], "cannot be read"),
        (b"\x1f\x8b", "cannot be read"),
        (gzip.compress(b"0" * (65 * 2**20)), "at most 64 MiB"),
    ],
)
def test_bad_traces(tmp_path, data, text):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(ScenarioError, match=re.escape(text)) as caught:
        load("trace-driven", trace=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected columns"),
        ("a,b\n1,2\n", "expected columns"),
        ("rate_mbit\n1\n", "expected columns"),
        ("rate_mbit,rtt_ms\n", "there is none"),
        ("rate_mbit,rtt_ms\n5,\n,5\n", "there is none"),
        ("rate_mbit,rtt_ms\n0,5\n", "'0': expected Mbit/s > 0"),
        ("rate_mbit,rtt_ms\n5,x\n", "'x': expected ms"),
        ('rate_mbit,rtt_ms\n"5,5\n', "comma-separated"),
    ],
)
def test_bad_regions(tmp_path, text, reason):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=re.escape(reason)) as caught:
        load("inter-region", regions=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 to 1000000 rows; got 0"),
        ("0 1 2 3 4 5\n", "at most 5 columns"),
        ("0 x\n", "line 1: 'x'"),
        ("0 1\n1 nan\n", "line 2: 'nan'"),
        ("0 1\nloop\n", "line 2: expected loop"),
        ("0 1\n2 3\nloop 1\n", "ends before loop_s"),
        ("2 1\n1 3\n", "row 2 at 1 s follows 2 s"),
    ],
)
def test_bad_schedule_files(tmp_path, text, reason):
    (tmp_path / "s").write_text(text)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(one(schedule="s")))
    with pytest.raises(ScenarioError, match=re.escape(reason)):
        load(path)


def test_warnings():
    scenario = load(
        {"paths": [{**RATE, "load": 0.7, "day": {"load": 0.6, "peak": 0}}], "workload": {"load": 1.5}}
    )
    overload, busy = scenario.warnings
    assert "workload.load up to 1.5" in overload
    assert "paths[1]: load and day.load up to 1.3" in busy


# --- whatever a file can hold ---

GOOD = {
    "name": "good",
    "mtu": 1500,
    "shuffle": True,
    "tasks": 10,
    "total_mbit": 100,
    "defaults": {"rtt_ms": {"uniform": [10, 20]}, "noise": {"sd": 0.1, "tau_s": 2}},
    "paths": [
        {"rate_mbit": {"log_uniform": [10, 90]}, "ge": {"loss_pct": 1, "burst_packets": 3}, "cc": "cubic"},
        {
            "rate_mbit": 30,
            "schedule": [[0, None, 7, 1, 0.2], [2, None, 5]],
            "loop_s": 5,
            "queue_bytes": 90000,
        },
        {"rate_mbit": 40, "outages": [[1, 1]], "outage_period_s": 9, "ba": {"rtt_ms": 40}},
        {"rate_mbit": 40, "load": 0.2, "burst_ms": [100, 200], "day": {"load": 0.1, "peak": 0.3}},
    ],
    "shared": [{"paths": [1, 2], "rate_mbit": 50}],
    "background": [{"path": 3, "udp_mbit": 3, "seconds": 5}, {"path": 4, "flows": 2}],
    "workload": {
        "load": 0.5,
        "size": {"kind": "lognormal", "median_bytes": 1e5, "sigma": 1},
        "deadline": {"share": 0.5, "low": 1, "high": 2},
        "priority": [0, 1],
    },
}
GOOD_OF_ANY_NUMBER = {
    "paths": 3,
    "clock": "tasks",
    "total_mbit": {"log_uniform": [1, 1000]},
    "rate_spread": {"log_uniform": [1, 100]},
    "defaults": {"rate_mbit": 1, "rtt_ms": 20, "random_outages": {"up_s": 99, "down_s": 1}},
    "shared": [{"paths": 2, "rate_share": 0.7}],
    "workload": {
        "size": {
            "choice": [
                {"kind": "fixed", "mean_s": 1},
                {"kind": "exponential", "mean_s": {"log_uniform": [0.1, 1]}, "max_bytes": 1e12},
                {"kind": "lognormal", "sigma": 2, "mean_bytes": 1e6},
                {"kind": "pareto", "shape": 1, "min_bytes": 1, "max_bytes": 100, "mean_s": 1},
                {"kind": "two_humped", "median_bytes": [1, 9], "sigma": [1, 2], "share": 0.5, "mean_s": 1},
            ]
        },
        "arrivals": {
            "choice": [
                "poisson",
                {"kind": "bursty", "tasks": 9, "share": 0.5},
                {"kind": "daily", "swing": 0.5, "peak": 0.5},
                {"kind": "closed", "clients": 4},
            ]
        },
        "day_s": 99,
    },
}
GOODS = (GOOD, GOOD_OF_ANY_NUMBER)
KEYS = sorted(
    {
        "families",
        "trace",
        "regions",
        "ab",
        "random_outages",
        "up_s",
        "down_s",
        "uniform",
        "choice",
        "log_uniform",
        "kind",
    }
    | set(re.findall(r'"(\w+)":', json.dumps(GOODS)))
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [0, 1, -1, 0.5, 1e-300, 1e300, 10**400, math.nan, math.inf, "", "bbr", "x\0", "homogeneous", "."]
    )
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
        | st.dictionaries(st.integers(), inner, max_size=1)
    ),
    max_leaves=12,
)


def survives(tables):
    try:
        scenario = load(tables)
    except ScenarioError:
        return
    worlds = scenario.sample([0, 1, 2**64 - 1])
    assert (worlds.capacity_Bps > 0).all()
    for field in worlds.workload.dtype.names:
        assert np.isfinite(worlds.workload[field]).all(), field
    assert (worlds.workload["arrivals_per_s"] >= 0).all()
    with contextlib.suppress(ScenarioError):  # more outages than the lab takes
        json.dumps(scenario.wanlab(3, horizon_s=3), allow_nan=False)


def places(value, path=()):
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


def test_good_survives():
    assert load(GOOD).n_streams == 4
    assert load(GOOD_OF_ANY_NUMBER).n_streams == 3
    for tables in GOODS:
        survives(tables)


@settings(deadline=None)
@given(tables=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), anything, max_size=5))
def test_any_tables(tables):
    survives(tables)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    good=st.sampled_from(GOODS),
    edits=st.lists(
        st.tuples(
            st.sampled_from([place for good in GOODS for place in places(good)]),
            st.sampled_from(["set", "drop", "add"]),
            st.sampled_from(KEYS),
            anything,
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_good_with_edits(good, edits):
    tables = copy.deepcopy(good)
    for path, what, key, value in edits:
        parent = tables
        try:
            for step in path[:-1]:
                parent = parent[step]
            if what == "add":
                parent[path[-1]][key] = value
            elif what == "set":
                parent[path[-1]] = value
            else:
                del parent[path[-1]]
        except (IndexError, KeyError, TypeError):  # an earlier edit took the place away
            continue
    survives(tables)


@given(
    data=st.binary(max_size=60) | st.text("0123456789,.-e\n#t ", max_size=60).map(str.encode),
    packed=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_trace_file(tmp_path, data, packed):
    path = tmp_path / "t"
    path.write_bytes(gzip.compress(data) if packed else data)
    for key in ("trace", "regions"):
        with contextlib.suppress(ScenarioError):
            load({"paths": [{key: str(path)}]}).sample([1])
    with contextlib.suppress(ScenarioError):
        size = {"kind": "recorded", "file": str(path)}
        load({"paths": 2, "defaults": {"rate_mbit": 5}, "workload": {"size": size}}).sample([1])


@given(
    data=st.binary(max_size=60) | st.text('[]{}="\n.paths:1,', max_size=60).map(str.encode),
    json_=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_scenario_file(tmp_path, data, json_):
    path = tmp_path / ("t.json" if json_ else "t.toml")
    path.write_bytes(data)
    with pytest.raises(ScenarioError, match=re.escape(str(path))):
        load(path)


def test_deep_lists_are_refused(tmp_path):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    (tmp_path / "t.csv").write_text("0,1\n1,2\n")
    for key in ("paths", "shared", "defaults", "workload", "families", "seed"):
        with pytest.raises(ScenarioError, match=key):
            load({"paths": [{"trace": "x"}], key: deep}, trace=tmp_path / "t.csv")
