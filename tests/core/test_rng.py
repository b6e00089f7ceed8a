"""Generators after a fork: parent and children draw apart, and the same again in the same order of forks."""

import copy
import ctypes
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import itp
from itp._core.rng import process
from processes import in_child

pytestmark = [pytest.mark.core, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]

TIMEOUT_S = 60


def explorer(seed, n_streams=4):
    p = itp.TaskPartitioner(n_streams=n_streams, epsilon=1.0, seed=seed)
    for i in range(n_streams):
        p.update_stream(i, bandwidth_mbps=100.0, latency_ms=10.0)
    return p


def explored(p):
    return [p.partition_task(itp.Task("t", 10**7)).action for _ in range(24)]


def filled(seed=0):
    buffer = itp.PrioritizedReplayBuffer(1000, state_dim=1, seed=seed)
    nothing = np.zeros((1000, 1))
    buffer.add_batch(
        state=nothing,
        action=np.zeros(1000, dtype=int),
        reward=np.zeros(1000),
        next_state=nothing,
        done=np.zeros(1000, dtype=bool),
    )
    return buffer


def sampled(buffer):
    return buffer.sample(24)["indexes"].tolist()


def distinct(sequences):
    return len({tuple(sequence) for sequence in sequences}) == len(sequences)


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize(
    ("make", "draw"),
    [(explorer, explored), (lambda seed: filled(seed or 0), sampled)],
    ids=["decider", "replay"],
)
def test_parent_and_children_draw_apart(make, draw, seed):
    generator = make(seed)
    children = [in_child(lambda: draw(generator)) for _ in range(3)]
    grandchild = in_child(lambda: in_child(lambda: draw(generator)))
    own = draw(generator)
    after = in_child(lambda: draw(generator))
    assert distinct([own, *children, grandchild, after])


def test_a_fork_leaves_the_parents_numbers_as_they_are():
    forking, alone = explorer(5), explorer(5)
    first = explored(forking)
    in_child(lambda: explored(forking))
    assert first + explored(forking) == explored(alone) + explored(alone)


def test_a_generator_seeded_in_a_child_draws_what_its_seed_says():
    assert in_child(lambda: explored(explorer(5))) == explored(explorer(5))
    assert in_child(lambda: sampled(filled(5))) == sampled(filled(5))


def test_a_buffer_loaded_in_a_child_goes_on_as_it_was_saved(tmp_path):
    buffer = filled()
    sampled(buffer)
    buffer.save(tmp_path / "buffer")

    def loaded():
        other = filled(7)
        other.load(tmp_path / "buffer")
        return sampled(other)

    assert in_child(loaded) == sampled(buffer)


FORKS_IN_ORDER = """
p = explorer({seed})
print([in_child(lambda: explored(p)) for _ in range(2)], in_child(lambda: in_child(lambda: explored(p))))
"""


def printed(code):
    """What another interpreter prints, line by line."""
    folder = os.path.dirname(__file__)
    first = (
        f"import sys; sys.path[:0] = {[folder, os.path.join(folder, '..', 'support')]!r}\n"
        "from test_rng import *\n"
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", first + code],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    ).stdout.splitlines()  # fmt: skip


@pytest.mark.parametrize(("seed", "again"), [(5, True), (None, False)])
def test_a_seeded_program_that_forks_in_the_same_order_draws_the_same(seed, again):
    first, second = (printed(FORKS_IN_ORDER.format(seed=seed)) for _ in range(2))
    assert first
    assert (first == second) is again


def test_a_process_forked_by_c_draws_apart():
    """A data plane may fork without the interpreter's knowledge."""
    p = explorer(5)
    libc = ctypes.PyDLL(None)
    reading, writing = os.pipe()
    child = libc.fork()
    if child == 0:
        os.write(writing, pickle.dumps(explored(p)))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    assert pickle.loads(content) != explored(p)


def test_children_forked_by_several_threads_at_once():
    numbers, errors = [], []
    ready = threading.Barrier(4, timeout=30)

    def fork_often():
        try:
            ready.wait()
            for _ in range(10):
                reading, writing = os.pipe()
                child = os.fork()
                if child == 0:
                    os.write(writing, process().to_bytes(8, "little"))
                    os._exit(0)
                os.close(writing)
                with open(reading, "rb", buffering=0) as answer:
                    numbers.append(answer.read(8))
                os.waitpid(child, 0)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fork_often) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert len(set(numbers)) == len(numbers) == 40
    assert process().to_bytes(8, "little") not in numbers


def answer(queue, p):
    queue.put(explored(p))


def answer_of_own(queue, seed):
    queue.put(explored(explorer(seed)))


def test_workers_of_multiprocessing_that_are_forked():
    p, context = explorer(None), multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=answer, args=(queue, p)) for _ in range(3)]
    for worker in workers:
        worker.start()
    answers = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert distinct([*answers, explored(p)])


WORKERS_THAT_ARE_NO_COPIES = """
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    queue = context.SimpleQueue()
    for seed in (5, 5, None, None):
        worker = context.Process(target=answer_of_own, args=(queue, seed))
        worker.start()
        print(queue.get())
        worker.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_multiprocessing_that_are_no_copies(method):
    with pytest.raises(TypeError, match="a TaskPartitioner cannot be pickled or copied"):
        pickle.dumps(explorer(5))
    seeded, again, drawn, other = printed(WORKERS_THAT_ARE_NO_COPIES.format(method=method))
    assert seeded == again == str(explored(explorer(5)))
    assert distinct([seeded, drawn, other])


def test_a_buffer_is_not_copied():
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"save\(path\) writes it"):
            call(filled())
