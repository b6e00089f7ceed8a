"""The face for C and Cython: the example, every function of the table, and a `cimport` from outside."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import itp
from itp_overhead import dense_chain
from set_models import set_file

pytestmark = pytest.mark.core

EXAMPLES = Path(__file__).parents[2] / "examples"
COMPILER = os.environ.get("CC", "cc")

needs_compiler = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no C compiler {COMPILER!r}")

# Every function of the table, right and wrong; returns the line of the first thing that is not right.
TABLE = """
#include "itp.h"
#include <math.h>
#include <string.h>
#define CHECK(what) if (!(what)) return __LINE__

int check(const itp_api *api, const itp_model *model)
{
    CHECK(api->version == ITP_API_VERSION);
    CHECK(!api->create(0, ITP_FIFO));
    CHECK(!api->create(17, ITP_FIFO));
    CHECK(!api->create(4, 7));
    itp_decider *seven = api->create(7, ITP_SRPT);
    CHECK(seven);
    CHECK(api->serve(seven, model) == ITP_INVALID);
    CHECK(api->serve(seven, NULL) == ITP_OK);
    itp_decision d;
    memset(&d, 0, sizeof d);
    d.task = (itp_task){.size_bytes = 123456789, .priority = 0.5, .deadline_s = INFINITY, .redundancy = 1};
    CHECK(api->decide(seven, &d) == ITP_OK);
    CHECK(d.source == ITP_HEURISTIC && d.number == 1 && d.paths.n == 7 && !d.has_q_values);
    int64_t sum = 0;
    for (int i = 0; i < ITP_MAX_STREAMS; i++)
        sum += d.chunk_bytes[i];
    CHECK(sum == 123456789);
    api->drop(seven, &d);
    api->drop(seven, &d);
    api->destroy(seven);

    itp_decider *four = api->create(4, ITP_FIFO);
    CHECK(four && api->serve(four, model) == ITP_OK);
    for (int i = 0; i < 4; i++)
        CHECK(api->update_stream(four, i, 100.0 * (i + 1), 10.0, NAN, 0.99) == ITP_OK);
    CHECK(api->update_stream(four, 0, 100.0, 10.0, 0.25, 1.0) == ITP_OK);
    CHECK(api->update_stream(four, 4, 1, 1, NAN, 1) == ITP_INVALID);
    CHECK(api->update_stream(four, -1, 1, 1, NAN, 1) == ITP_INVALID);
    CHECK(api->update_stream(four, 0, NAN, 1, NAN, 1) == ITP_INVALID);
    CHECK(api->update_stream(four, 0, 1, INFINITY, NAN, 1) == ITP_INVALID);
    CHECK(api->update_stream(four, 0, 1, 1, 1.5, 1) == ITP_INVALID);
    CHECK(api->update_stream(four, 0, 1, 1, NAN, NAN) == ITP_INVALID);
    CHECK(api->explore(four, -0.1, 0) == ITP_INVALID);
    CHECK(api->explore(four, NAN, 0) == ITP_INVALID);
    CHECK(api->explore(four, 1.0, 7) == ITP_OK);
    CHECK(api->decide(four, &d) == ITP_OK);
    CHECK(d.explored && d.propensity > 0 && d.propensity <= 1);
    api->drop(four, &d);
    CHECK(api->explore(four, 0.0, 0) == ITP_OK);

    CHECK(api->set_deadlines(four, 3) == ITP_INVALID);
    CHECK(api->set_deadlines(four, -1) == ITP_INVALID);
    CHECK(api->set_deadlines(NULL, ITP_DEADLINES_HARD) == ITP_INVALID);
    /* Rule and model may choose one stream; 123 MB meet this deadline over several alone. */
    for (int hard = ITP_DEADLINES_SOFT; hard >= ITP_DEADLINES_HARD; hard--) {
        itp_decider *due = api->create(4, ITP_FIFO);
        for (int i = 0; i < 4; i++)
            CHECK(api->update_stream(due, i, 100.0, 10.0, NAN, 1.0) == ITP_OK);
        CHECK(api->serve(due, model) == ITP_OK && api->set_deadlines(due, hard) == ITP_OK);
        itp_decision plan;
        memset(&plan, 0, sizeof plan);
        plan.task = (itp_task){.size_bytes = 123456789, .priority = 0.5, .deadline_s = 2.8, .redundancy = 1};
        CHECK(api->decide(due, &plan) == ITP_OK);
        if (hard == ITP_DEADLINES_HARD)
            CHECK(plan.feasible && plan.streams == 15u);
        api->drop(due, &plan);
        api->destroy(due);
    }

    const itp_task good = d.task;
    const itp_task bad[] = {
        {.size_bytes = 0, .priority = 0.5, .deadline_s = 1, .redundancy = 1},
        {.size_bytes = 1, .priority = NAN, .deadline_s = 1, .redundancy = 1},
        {.size_bytes = 1, .priority = 0.5, .deadline_s = 0, .redundancy = 1},
        {.size_bytes = 1, .priority = 0.5, .deadline_s = NAN, .redundancy = 1},
        {.size_bytes = 1, .priority = 0.5, .deadline_s = 1, .redundancy = 0},
        {.size_bytes = 1, .priority = 0.5, .deadline_s = 1, .redundancy = 17},
        {.size_bytes = 1, .priority = 0.5, .deadline_s = 1, .redundancy = 1, .min_bandwidth_Bps = -1},
        {.size_bytes = 1, .priority = 0.5, .deadline_s = 1, .redundancy = 1, .min_chunk_bytes = -1},
    };
    for (unsigned k = 0; k < sizeof bad / sizeof *bad; k++) {
        d.task = bad[k];
        CHECK(api->decide(four, &d) == ITP_INVALID);
    }
    d.task = good;
    d.task.redundancy = 5;
    CHECK(api->decide(four, &d) == ITP_TOO_FEW_STREAMS);
    for (int i = 0; i < 4; i++)
        CHECK(api->set_stream_up(four, i, 0) == ITP_OK);
    CHECK(api->set_stream_up(four, 4, 0) == ITP_INVALID);
    d.task = good;
    CHECK(api->decide(four, &d) == ITP_NO_STREAM_UP);
    CHECK(api->set_stream_up(four, 2, 1) == ITP_OK);
    CHECK(api->decide(four, &d) == ITP_OK);
    CHECK(d.streams == 4u && d.chunk_bytes[2] == good.size_bytes);
    CHECK(d.source == ITP_NATIVE || d.source == ITP_GUARD);
    CHECK(d.has_q_values && isfinite(d.q_values[14]) && d.state[2] > 0);

    CHECK(api->report_progress(four, 2, 1000) == ITP_OK);
    CHECK(api->report_progress(four, 2, -1) == ITP_INVALID);
    CHECK(api->report_progress(four, 9, 1) == ITP_INVALID);
    double reward = NAN;
    itp_outcome outcome = {.throughput_mbps = NAN, .latency_s = 1, .success = 1};
    CHECK(api->report_outcome(four, &d, &outcome, &reward) == ITP_INVALID && isnan(reward));
    outcome.throughput_mbps = 300;
    itp_decision copy = d;
    CHECK(api->report_outcome(four, &d, &outcome, &reward) == ITP_OK && isfinite(reward));
    CHECK(api->report_outcome(four, &d, &outcome, &reward) == ITP_INVALID);
    CHECK(api->report_outcome(four, &copy, &outcome, &reward) == ITP_INVALID);
    api->drop(four, &copy);

    /* Another decider's decision, of the same number. */
    itp_decider *other = api->create(4, ITP_FIFO);
    itp_decision theirs = {.task = good};
    for (uint64_t k = 0; k < copy.number; k++)
        CHECK(api->decide(other, &theirs) == ITP_OK);
    CHECK(api->decide(four, &d) == ITP_OK);
    theirs.number = d.number;
    CHECK(api->report_outcome(four, &theirs, &outcome, &reward) == ITP_INVALID);
    api->drop(four, &theirs);

#if ITP_API_VERSION == 1
    outcome.retransmitted_bytes = 5;
    CHECK(api->report_outcome(four, &d, &outcome, &reward) == ITP_OK);
#else
    /* What the decision's one stream did. */
    CHECK(d.streams == 4u);
    const itp_stream_outcome wrong[] = {
        {.stream = 1, .bytes = 1, .seconds = 1},
        {.stream = 4, .bytes = 1, .seconds = 1},
        {.stream = -1, .bytes = 1, .seconds = 1},
        {.stream = 40, .bytes = 1, .seconds = 1},
        {.stream = 2, .bytes = -1, .seconds = 1},
        {.stream = 2, .bytes = good.size_bytes + 1, .seconds = 1},
        {.stream = 2, .bytes = 1, .seconds = NAN},
        {.stream = 2, .bytes = 1, .seconds = INFINITY},
        {.stream = 2, .bytes = 1, .seconds = -1},
        {.stream = 2, .bytes = 1, .seconds = 1, .retransmitted_bytes = -1},
    };
    reward = NAN;
    for (unsigned k = 0; k < sizeof wrong / sizeof *wrong; k++)
        CHECK(api->report_streams(four, &d, &outcome, &wrong[k], 1, &reward) == ITP_INVALID && isnan(reward));
    const itp_stream_outcome one = {.stream = 2, .bytes = 1, .seconds = 1}, twice[] = {one, one};
    CHECK(api->report_streams(four, &d, &outcome, twice, 2, &reward) == ITP_INVALID);
    CHECK(api->report_streams(four, &d, &outcome, twice, -1, &reward) == ITP_INVALID);
    CHECK(api->report_streams(four, &d, &outcome, NULL, 1, &reward) == ITP_INVALID);
    CHECK(api->report_streams(NULL, &d, &outcome, twice, 1, &reward) == ITP_INVALID);
    CHECK(api->report_streams(four, &d, NULL, twice, 1, &reward) == ITP_INVALID);
    const itp_stream_outcome right = {.stream = 2, .bytes = good.size_bytes, .seconds = 1,
                                      .retransmitted_bytes = 5};
    CHECK(api->report_streams(four, &d, &outcome, &right, 1, &reward) == ITP_OK && isfinite(reward));
    CHECK(api->report_streams(four, &d, &outcome, &right, 1, &reward) == ITP_INVALID);
#endif
    api->destroy(other);

    itp_counters counters;
    itp_times times;
    CHECK(api->figures(four, &counters, &times) == ITP_OK);
    CHECK(counters.decisions == 3 && counters.by_model == 3 && counters.explored == 1);
    CHECK(counters.outcomes == 2 && counters.successes == 2 && counters.reward_sum > 0);
    CHECK(counters.retransmitted_bytes == 5);
    uint64_t timed = 0;
    for (int k = 0; k < ITP_N_TIMES; k++)
        timed += times.count[k];
    CHECK(timed == 3 && times.sum_s > 0 && times.sum_s < 1);
    CHECK(api->figures(four, NULL, NULL) == ITP_OK);

    CHECK(api->serve(NULL, model) == ITP_INVALID && api->explore(NULL, 0, 0) == ITP_INVALID);
    CHECK(api->update_stream(NULL, 0, 1, 1, NAN, 1) == ITP_INVALID);
    CHECK(api->set_stream_up(NULL, 0, 1) == ITP_INVALID && api->figures(NULL, NULL, NULL) == ITP_INVALID);
    CHECK(api->decide(NULL, &d) == ITP_INVALID && api->decide(four, NULL) == ITP_INVALID);
    CHECK(api->report_progress(NULL, 0, 1) == ITP_INVALID);
    CHECK(api->report_outcome(NULL, &d, &outcome, NULL) == ITP_INVALID);
    CHECK(api->report_outcome(four, NULL, &outcome, NULL) == ITP_INVALID);
    CHECK(api->report_outcome(four, &d, NULL, NULL) == ITP_INVALID);
    api->drop(NULL, &d);
    api->drop(four, NULL);
    api->destroy(four);
    api->destroy(NULL);
    return 0;
}
"""


def library(folder, source, *flags, include=None):
    (folder / "source.c").write_text(source)
    built = folder / "source.so"
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]
    include = itp.get_include() if include is None else include
    command = [COMPILER, "-std=gnu11", "-O1", *warnings, "-shared", "-fPIC", f"-I{include}"]
    subprocess.run([*command, *flags, folder / "source.c", "-o", built, "-lm"], check=True)
    return ctypes.CDLL(os.fspath(built))


@needs_compiler
def test_every_function_of_the_table(tmp_path):
    check = library(tmp_path, TABLE).check
    check.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    model = itp.native_model("dqn_v1")
    assert check(itp.c_api(), model.address) == 0, "the line of the source above that failed"


@pytest.fixture
def version_1(tmp_path):
    """A folder with the header that code of version 1 was compiled with."""
    folder = tmp_path / "v1"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("itp_v1.h"), folder / "itp.h")
    return folder


@needs_compiler
def test_code_compiled_for_version_1_works(tmp_path, version_1):
    check = library(tmp_path, TABLE, include=version_1).check
    check.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    model = itp.native_model("dqn_v1")
    assert check(itp.c_api(1), model.address) == 0, "the line of the source above that failed"
    for wrong in (0, 3, None):
        with pytest.raises(ValueError, match="version"):
            itp.c_api(wrong)


@needs_compiler
@pytest.mark.skipif(
    not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file(), reason="Python.h is not installed"
)
@pytest.mark.parametrize("version", [1, 2])
def test_the_table_by_the_interpreter(tmp_path, version_1, version):
    built = library(
        tmp_path,
        """
#include <Python.h>
#include "itp.h"
int version(void)
{
    const itp_api *api = itp_import_api();
    return api ? api->version : -1;
}
""",
        f"-I{sysconfig.get_paths()['include']}",
        include=version_1 if version == 1 else None,
    )
    # In a process that has imported itp, and nothing of its modules.
    code = f"import ctypes, itp; print(ctypes.PyDLL({built._name!r}).version())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{version}\n")


@needs_compiler
def test_the_header_is_for_cxx_too(tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "source.cpp"
    source.write_text(
        '#include "itp.h"\nint main() { itp_decision d{}; return d.task.redundancy + ITP_OK; }\n'
    )
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", f"-I{itp.get_include()}"]
    subprocess.run([compiler, *flags, source, "-o", tmp_path / "out"], check=True)
    subprocess.run([tmp_path / "out"], check=True)


@needs_compiler
@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("name", ["dqn_v1", None])
def test_a_c_decider_decides_as_the_partitioner_does(tmp_path, name, order):
    run = library(
        tmp_path,
        """
#include "itp.h"
#include <math.h>
#include <string.h>
int decide(const itp_api *api, const itp_model *model, int order, int64_t *chunks, double *expected_s,
           float *state)
{
    itp_decider *decider = api->create(4, order);
    int status = api->serve(decider, model);
    for (int i = 0; i < 4; i++)
        status |= api->update_stream(decider, i, 50.0 * (4 - i), 10.0 + 25 * i, NAN, 0.98);
    for (int k = 0; k < 40 && !status; k++) {
        itp_decision d = {.task = {.size_bytes = 1000000 << (k % 12), .priority = 0.5, .redundancy = 1,
                                   .deadline_s = INFINITY, .min_chunk_bytes = k % 2 ? 1 : 0}};
        status = api->decide(decider, &d);
        memcpy(chunks + 4 * k, d.chunk_bytes, 4 * sizeof *chunks);
        memcpy(state + 20 * k, d.state, 20 * sizeof *state);
        expected_s[k] = d.expected_time_s;
    }
    api->destroy(decider);
    return status;
}
""",
    ).decide
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 3]
    chunks, expected_s, state = (ctypes.c_int64 * 160)(), (ctypes.c_double * 40)(), (ctypes.c_float * 800)()
    model = None if name is None else itp.native_model(name, order)
    address, number = None if model is None else model.address, ["fifo", "srpt"].index(order)
    assert run(itp.c_api(), address, number, chunks, expected_s, state) == 0
    with itp.TaskPartitioner(name, service_order=order) as p:
        for i in range(4):
            p.update_stream(i, 50.0 * (4 - i), 10.0 + 25 * i, None, 0.98)
        d = p.partition_task(itp.Task("t", 10**6))
        mine = [d.chunk_sizes[d.stream_ids.index(i)] if i in d.stream_ids else 0 for i in range(4)]
        assert mine == chunks[:4]
        assert d.expected_time_s == expected_s[0]
        assert d.state[:16].tolist() == state[:16]


@needs_compiler
def test_a_forked_child_of_a_data_plane_in_c_explores_apart(tmp_path):
    built = library(
        tmp_path,
        """
#include "itp.h"
#include <math.h>
#include <unistd.h>
#include <sys/wait.h>
static int explore(const itp_api *api, itp_decider *decider, uint32_t *actions)
{
    int status = ITP_OK;
    for (int k = 0; k < 24 && !status; k++) {
        itp_decision d = {.task = {.size_bytes = 10000000, .priority = 0.5, .redundancy = 1,
                                   .deadline_s = INFINITY}};
        status = api->decide(decider, &d);
        actions[k] = d.action_streams;
    }
    return status;
}
/* The actions of the parent and of two children, 24 each. */
int explore_in_three(const itp_api *api, uint32_t *actions)
{
    itp_decider *decider = api->create(4, ITP_FIFO);
    int status = api->explore(decider, 1.0, 5);
    for (int child = 1; child < 3 && !status; child++) {
        int ends[2], answer;
        if (pipe(ends))
            return -1;
        const pid_t pid = fork();
        if (!pid) {
            answer = explore(api, decider, actions);
            _exit(write(ends[1], actions, 24 * sizeof *actions) < 0 || answer);
        }
        if (read(ends[0], actions + 24 * child, 24 * sizeof *actions) != 24 * (ssize_t)sizeof *actions)
            return -1;
        waitpid(pid, &answer, 0);
        status = answer;
    }
    status = status ? status : explore(api, decider, actions);
    api->destroy(decider);
    return status;
}
""",
    )
    run = built.explore_in_three
    run.argtypes = [ctypes.c_void_p] * 2
    actions = (ctypes.c_uint32 * 72)()
    assert run(itp.c_api(), actions) == 0
    assert len({tuple(actions[k : k + 24]) for k in (0, 24, 48)}) == 3


@needs_compiler
@pytest.mark.parametrize("options", [(), ("--model", "dqn_v1"), ("--decisions", "3")])
def test_the_example(options):
    command = [sys.executable, EXAMPLES / "data_plane.py", "--threads", "2", "--decisions", "2000", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("dqn_v1-" if "--model" in options else "heuristic: ")
    shares = [float(x) for x in re.findall(r"([\d.]+) %", done.stdout)]
    assert sum(shares) == pytest.approx(100.0, abs=0.3)
    assert done.stderr == ""


@needs_compiler
@pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="Cython is not installed")
def test_cimport_from_outside(tmp_path):
    source = shutil.copy(EXAMPLES / "decider.pyx", tmp_path)
    subprocess.run([sys.executable, "-m", "cython", "-3", source], check=True, cwd=tmp_path)
    built = tmp_path / f"decider{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{sysconfig.get_paths()['include']}", f"-I{itp.get_include()}"]
    command = [COMPILER, "-O1", "-w", "-shared", "-fPIC", *includes, tmp_path / "decider.c", "-o", built]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("decider", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes_bytes = [10**6 + 7 * k for k in range(500)]
    with itp.TaskPartitioner(service_order="fifo") as p:
        for i, (mbps, ms) in enumerate([(200, 10), (100, 40), (50, 80), (20, 150)]):
            p.update_stream(i, mbps, ms, None, 0.99)
        first = p.partition_task(itp.Task("t", sizes_bytes[0]))
    mine = [first.chunk_sizes[first.stream_ids.index(i)] if i in first.stream_ids else 0 for i in range(4)]
    assert module.shares(None, sizes_bytes[:1]) == mine
    for model in (None, itp.native_model("dqn_v1")):
        assert sum(module.shares(model, sizes_bytes)) == sum(sizes_bytes)


def test_native_models(tmp_path):
    model = itp.native_model("dqn_v1", "srpt")
    assert "srpt" in model.version
    assert model.address > 0
    named = dense_chain(tmp_path / "m.onnx", metadata={"schema": 1, "version": "v3"})
    assert itp.native_model(named).version == "v3"
    with pytest.raises(itp.ModelError, match="no model"):
        itp.native_model("nowhere")
    assert (Path(itp.get_include()) / "itp.h").is_file()


# Decisions by a set model, and all that came with version 2; returns the line of what is not right.
SETS = """
#include "itp.h"
#include <math.h>
#include <string.h>
#define CHECK(what) if (!(what)) return __LINE__

int decide(const itp_api *api, const itp_model *model, int n, double preference, int count, int64_t *chunks,
           float *values)
{
    itp_decider *decider = api->create(n, ITP_SRPT);
    itp_decision d, before = {.task = {.size_bytes = 1, .priority = 0.5, .deadline_s = 1, .redundancy = 1}};
    itp_candidates found;
    uint64_t unsupported = 7;
    const itp_task good = {.priority = 0.5, .deadline_s = INFINITY, .redundancy = 1};
    CHECK(api->prefer(NULL, 0.5) == ITP_INVALID && api->prefer(decider, NAN) == ITP_INVALID);
    CHECK(api->prefer(decider, -0.01) == ITP_INVALID && api->prefer(decider, 1.01) == ITP_INVALID);
    CHECK(api->decide(decider, &before) == ITP_OK);
    CHECK(api->candidates(decider, &before, &found) == ITP_OK && found.count == 0 && !found.unsupported);
    api->drop(decider, &before);
    api->destroy(decider);

    decider = api->create(n, ITP_SRPT);
    CHECK(api->serve(decider, model) == ITP_OK);
    if (preference >= 0)
        CHECK(api->prefer(decider, preference) == ITP_OK);
    for (int i = 0; i < n; i++)
        CHECK(api->update_stream(decider, i, 200.0 / (1 + i), 5.0 + 10.0 * i, NAN, 0.99) == ITP_OK);
    for (int k = 0; k < count; k++) {
        memset(&d, 0, sizeof d);
        d.task = good;
        d.task.size_bytes = 1000 << k;
        CHECK(api->decide(decider, &d) == ITP_OK);
        CHECK(!d.has_q_values && d.source != ITP_HEURISTIC);
        memcpy(chunks + 16 * k, d.chunk_bytes, sizeof d.chunk_bytes);
        CHECK(api->candidates(decider, &d, &found) == ITP_OK && !found.unsupported);
        CHECK(found.count <= ITP_MAX_CANDIDATES);
        values[k] = NAN;
        for (int c = 0; c < found.count; c++) {
            CHECK(isfinite(found.values[c]) && found.planned_s[c] > 0 && found.streams[c] >> n == 0);
            if (found.streams[c] == d.action_streams)
                values[k] = found.values[c];
        }
        if (k)
            CHECK(api->candidates(decider, &before, &found) == ITP_INVALID);
        before = d;
    }
    CHECK(api->candidates(NULL, &d, &found) == ITP_INVALID);
    CHECK(api->candidates(decider, NULL, &found) == ITP_INVALID);
    CHECK(api->candidates(decider, &d, NULL) == ITP_INVALID);
    CHECK(api->unsupported(decider, &unsupported) == ITP_OK && unsupported == 0);
    CHECK(api->unsupported(NULL, &unsupported) == ITP_INVALID);
    CHECK(api->unsupported(decider, NULL) == ITP_INVALID);
    api->destroy(decider);
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("n", [1, 2, 4, 7, 16])
@pytest.mark.parametrize("prefer", [None, 0.0, 1.0])
def test_a_set_model_decides_in_c_as_in_the_partitioner(tmp_path, n, prefer):
    run = library(tmp_path, SETS).decide
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_double, ctypes.c_int]
    run.argtypes += [ctypes.c_void_p, ctypes.c_void_p]
    path = set_file(tmp_path / "m.onnx", metadata={"preferences": {"typical": 0, "balanced": 0.2, "bulk": 1}})
    model = itp.native_model(path)
    chunks, values = np.zeros((20, 16), np.int64), np.zeros(20, np.float32)
    failed = run(
        itp.c_api(),
        model.address,
        n,
        -1.0 if prefer is None else prefer,
        20,
        chunks.ctypes.data,
        values.ctypes.data,
    )
    assert failed == 0, "the line of the source above that failed"
    with itp.TaskPartitioner(path, n_streams=n, service_order="srpt", prefer=prefer or 0.2) as p:
        if prefer is not None:
            p.prefer = prefer
        for i in range(n):
            p.update_stream(i, 200.0 / (1 + i), 5.0 + 10.0 * i, success_rate=0.99)
        kept = [p.partition_task(itp.Task("t", 1000 << k)) for k in range(20)]
    # The first decisions see the same; later ones also the time between, which differs.
    first = {i: kept[0].chunk_sizes[place] for place, i in enumerate(kept[0].stream_ids)}
    assert {i: chunk for i, chunk in enumerate(chunks[0].tolist()) if chunk} == first
    if kept[0].q_value is not None:
        assert values[0] == pytest.approx(kept[0].q_value, abs=1e-3)
    assert (chunks.sum(axis=1) == [1000 << k for k in range(20)]).all()
