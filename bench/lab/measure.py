"""Completion times of single tasks over the emulated paths of a wanlab, in the real kernel.

A sender in namespace a and a receiver in namespace b (two processes, one clock) move one task over one fresh
TCP connection a path. The handshakes are done before the clock starts; it stops when the receiver has read
the last byte of the last chunk. Chunks are proportional to the paths' nominal rates. A case is a line of
JSON.

    sudo python3 bench/lab/measure.py --wanlab DIR --out raw.jsonl --stage singles actions warm
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import platform
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

ACTIONS = [streams for k in range(1, 5) for streams in itertools.combinations(range(4), k)]
SCENARIOS = ("homogeneous", "heterogeneous", "shared-bottleneck", "lossy", "flaky", "diurnal", "cellular")
OFFSETS_S = {"flaky": (0.2, 3.5), "diurnal": (0.2, 4.2), "cellular": (0.2, 3.0)}
STEADY = ("homogeneous", "heterogeneous", "shared-bottleneck")
CUBIC = (*STEADY, "lossy")
CUBIC_SINGLES = (*CUBIC, "flaky", "cellular")
KB, MB = 1_000, 1_000_000
PORT = 7411
STAGES = ("singles", "actions", "warm", "large")
CCS = ("bbr", "cubic")
PAYLOAD = memoryview(bytes(100 * MB))
STUCK_S = 90.0


@dataclass(kw_only=True)
class Case:
    """One task sent by one action."""

    scenario: str
    cc: str
    size_bytes: int
    action: int
    repeat: int = 0
    offset_s: float | None = None  # on the lab's clock; None: the scenario does not vary in time
    warm_gap_s: float | None = None  # idle time after carrying about 1.5 s of data; None: fresh connections


@dataclass(kw_only=True)
class Result:
    """What was measured of a case."""

    case: Case
    chunk_bytes: list[int]
    time_s: float
    stream_s: list[float]
    start_s: float | None  # the actual offset
    retransmitted: list[int]  # segments
    final_cwnd: list[int]
    progress: list[list[tuple[int, float]]] = field(
        default_factory=list
    )  # bytes read, seconds since the start

    def line(self, *, progress: bool) -> str:
        """A line of JSON."""
        row = asdict(self.case) | {k: v for k, v in asdict(self).items() if k not in ("case", "progress")}
        if progress:
            row["progress"] = self.progress
        return json.dumps(_rounded(row), separators=(",", ":"))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items() if v is not None}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def load_wanlab(folder: Path) -> ModuleType:
    """Import the lab's module from its folder."""
    spec = importlib.util.spec_from_file_location("wanlab", folder / "wanlab.py")
    if spec is None or spec.loader is None or not (folder / "wanlab.py").exists():
        raise SystemExit(f"measure.py: no wanlab.py in {folder}; name its folder with --wanlab DIR")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def proportional(size_bytes: int, rates: Sequence[float]) -> list[int]:
    """Integer shares in proportion to the rates, by the largest remainder; they sum to the size."""
    total = sum(rates)
    exact = [size_bytes * rate / total for rate in rates]
    shares = [int(x) for x in exact]
    by_remainder = sorted(range(len(rates)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: size_bytes - sum(shares)]:
        shares[i] += 1
    return shares


def _real_time(priority: int) -> None:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))


# ---- the receiver's process ---


def receive(listener: socket.socket, requests: Connection) -> None:
    """Serve requests: ("accept", n), any number of ("read", bytes by peer), then ("close",)."""
    _real_time(20)
    buffer = bytearray(256 * 1024)
    streams: dict[str, socket.socket] = {}
    while True:
        request = requests.recv()
        if request[0] == "accept":
            for _ in range(request[1]):
                sock, (peer, _) = listener.accept()
                sock.setblocking(False)
                streams[peer] = sock
            requests.send("all accepted")
        elif request[0] == "read":
            requests.send("ready")
            requests.send(_read(streams, request[1], buffer))
        elif request[0] == "close":
            for sock in streams.values():
                sock.close()
            streams.clear()
        else:
            return


def _read(
    streams: dict[str, socket.socket], wanted: dict[str, int], buffer: bytearray
) -> dict[str, list[tuple[int, float]]] | None:
    """Read the wanted bytes of each stream: (bytes, time) at every factor of sqrt(2), and at the last byte.

    None if they have not arrived after ``STUCK_S``.
    """
    poll = select.epoll()
    by_fd = {streams[peer].fileno(): peer for peer in wanted}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    got = dict.fromkeys(wanted, 0)
    next_mark = dict.fromkeys(wanted, 10_000.0)
    marks: dict[str, list[tuple[int, float]]] = {peer: [] for peer in wanted}
    give_up = time.monotonic() + STUCK_S
    while by_fd:
        for fd, _ in poll.poll(1.0):
            peer = by_fd[fd]
            n = streams[peer].recv_into(buffer, min(len(buffer), wanted[peer] - got[peer]))
            now = time.monotonic()
            got[peer] += n
            done = got[peer] == wanted[peer] or not n
            if done or got[peer] >= next_mark[peer]:
                marks[peer].append((got[peer], now))
                while next_mark[peer] <= got[peer]:
                    next_mark[peer] *= 2**0.5
            if done:
                poll.unregister(fd)
                del by_fd[fd]
        if time.monotonic() > give_up:
            poll.close()
            return None
    poll.close()
    return marks


# ---- the sender's process ---


class Bench:
    """A running lab with the receiver in it."""

    def __init__(self, wanlab: ModuleType, folder: Path, scenario: str, name: str) -> None:
        self.wanlab = wanlab
        self.lab = wanlab.Lab(folder / "scenarios" / f"{scenario}.json", name=name)

    def __enter__(self) -> Bench:
        self.lab.up()
        listener = self.lab.socket("b", kind=socket.SOCK_STREAM)
        listener.bind(("0.0.0.0", PORT))
        listener.listen(16)
        self.requests, other_end = multiprocessing.Pipe()
        self.receiver = multiprocessing.Process(target=receive, args=(listener, other_end), daemon=True)
        self.receiver.start()
        listener.close()
        return self

    def __exit__(self, *exc: object) -> None:
        self.receiver.terminate()
        self.receiver.join()
        self.lab.down()

    def rates_mbit(self) -> list[float]:
        """The nominal rates of all paths, in the data's direction."""
        return [float(self.lab.params(i, "ab")["rate_mbit"]) for i in self.lab.paths]

    def guess_s(self, case: Case) -> float:
        """Rough duration of a case, by which those that take too long are left out."""
        times = []
        for path, chunk in zip(ACTIONS[case.action], self.chunks(case), strict=True):
            p = self.lab.params(path + 1, "ab")
            rate = p["rate_mbit"] * (1 - p.get("load", 0))
            loss = p.get("loss_pct", 0) / 100
            if loss and case.cc == "cubic":
                rate = min(rate, 1.22 * 1448 * 8e-6 / (p["delay_ms"] * 2e-3 * loss**0.5))
            times.append(chunk * 8e-6 / rate)
        return max(times)

    def chunks(self, case: Case) -> list[int]:
        """Bytes of a case on each of its paths."""
        rates = self.rates_mbit()
        return proportional(case.size_bytes, [rates[path] for path in ACTIONS[case.action]])

    def _connect(self, paths: Sequence[int], cc: str) -> dict[str, socket.socket]:
        self.requests.send(("accept", len(paths)))
        streams = {}
        for path in paths:
            sock = self.lab.socket("a", path=path + 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, cc.encode())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((self.wanlab.address(path + 1, "b"), PORT))
            streams[self.wanlab.address(path + 1, "a")] = sock
        self.requests.recv()
        return streams

    def _send(
        self, streams: dict[str, socket.socket], chunk: dict[str, int], at_s: float
    ) -> tuple[float, dict[str, list[tuple[int, float]]] | None]:
        """Send the chunks at this time of the monotonic clock: the actual time, and the receiver's answer."""
        self.requests.send(("read", chunk))
        self.requests.recv()
        threads = [
            threading.Thread(target=_send_all, args=(sock, PAYLOAD[: chunk[peer]]))
            for peer, sock in streams.items()
        ]
        time.sleep(max(0.0, at_s - time.monotonic()))
        began = time.monotonic()
        for thread in threads:
            thread.start()
        seen = self.requests.recv()
        for sock in streams.values() if seen is None else ():
            sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        return began, seen

    def measure(self, case: Case) -> Result | None:
        """Measure a case; None if it was not over after ``STUCK_S``."""
        paths = ACTIONS[case.action]
        if case.offset_s is not None:
            self.lab.restart()
        streams = self._connect(paths, case.cc)
        rates = self.rates_mbit()
        chunk = dict(zip(streams, self.chunks(case), strict=True))
        at_s, zero = 0.0, None
        if case.offset_s is not None:
            self.lab.restart()
            zero = self.lab.stats()["start"]
            at_s = zero + case.offset_s
        if case.warm_gap_s is not None:
            carry = {
                peer: int(rates[path] * 125_000 * 1.5) for peer, path in zip(streams, paths, strict=True)
            }
            self._send(streams, carry, 0.0)
            at_s = time.monotonic() + case.warm_gap_s
        began, seen = self._send(streams, chunk, at_s)
        info = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104) for sock in streams.values()]
        self.requests.send(("close",))
        for sock in streams.values():
            sock.close()
        time.sleep(0.05 + 2 * max(self.lab.params(path + 1, "ab")["delay_ms"] for path in paths) / 1000)
        if seen is None:
            return None
        times = [seen[peer][-1][1] - began for peer in streams]
        return Result(
            case=case,
            chunk_bytes=list(chunk.values()),
            time_s=max(times),
            stream_s=times,
            start_s=None if zero is None else began - zero,
            retransmitted=[struct.unpack_from("I", i, 100)[0] for i in info],
            final_cwnd=[struct.unpack_from("I", i, 80)[0] for i in info],
            progress=[[(n, t - began) for n, t in seen[peer]] for peer in streams],
        )


def _send_all(sock: socket.socket, data: memoryview) -> None:
    _real_time(20)
    with contextlib.suppress(OSError):
        sock.sendall(data)


# ---- the plan ---


def plan(stage: str, scenario: str, cc: str) -> Iterator[Case]:
    """The cases of a stage, with more repeats where chance plays a part, and fewer where cases take long."""
    if stage == "warm":
        if scenario == "heterogeneous":
            for gap_s, action, size in itertools.product((0.2, 2.0), range(4), (100 * KB, MB, 10 * MB)):
                yield Case(scenario=scenario, cc=cc, size_bytes=size, action=action, warm_gap_s=gap_s)
        return
    if cc == "cubic" and scenario not in (CUBIC_SINGLES if stage == "singles" else CUBIC):
        return
    for number, offset_s in enumerate(OFFSETS_S.get(scenario, (None,))):
        actions, repeats = range(15), {100 * KB: 2, MB: 2, 10 * MB: 2}
        if stage == "large":
            repeats = {100 * MB: 1} if number == 0 and scenario in STEADY and cc == "bbr" else {}
        elif scenario == "lossy":
            repeats = {100 * KB: 10, MB: 10, 10 * MB: 3} if cc == "bbr" else {100 * KB: 20, MB: 20}
        elif number > 0:
            repeats = {MB: 1, 10 * MB: 1}
        elif stage == "actions" and scenario in OFFSETS_S:
            repeats = dict.fromkeys(repeats, 1)
        chosen = {"singles": actions[:4], "actions": actions[4:], "large": actions}[stage]
        for action, (size, n) in itertools.product(chosen, repeats.items()):
            for repeat in range(n):
                yield Case(
                    scenario=scenario, cc=cc, size_bytes=size, action=action, repeat=repeat, offset_s=offset_s
                )


def need_root() -> None:
    """Exit with a message unless this process is root's."""
    if os.geteuid():
        raise SystemExit(
            "measuring builds network namespaces and needs root: sudo, or --measured FILE to compare only"
        )


def about() -> dict[str, str]:
    """Machine and date: the first line of the raw results."""
    cpu = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "about": "seconds from the first send until the receiver has read the last byte; connected before",
        "machine": f"{os.cpu_count()} x {cpu}",
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d"),
    }


def measure_all(
    folder: Path,
    out: Path,
    *,
    stages: Sequence[str] = STAGES,
    scenarios: Sequence[str] = SCENARIOS,
    ccs: Sequence[str] = CCS,
    limit_s: float = 12.0,
    progress: bool = False,
    name: str = "itpv",
) -> None:
    """Measure all cases that take at most about `limit_s`, and append a line of JSON for each to a file."""
    need_root()
    wanlab = load_wanlab(folder)
    _real_time(20)
    began = time.monotonic()
    with out.open("a") as lines:
        if not lines.tell():
            lines.write(json.dumps(about()) + "\n")
        for stage, scenario in itertools.product(stages, scenarios):
            with Bench(wanlab, folder, scenario, name) as bench:
                for cc in ccs:
                    for case in plan(stage, scenario, cc):
                        if bench.guess_s(case) > limit_s:
                            continue
                        result = bench.measure(case)
                        if result is None:
                            print(f"still going on after {STUCK_S} s, left out: {case}", file=sys.stderr)
                            continue
                        lines.write(result.line(progress=progress) + "\n")
                        lines.flush()
            print(f"{time.monotonic() - began:7.1f} s  {stage} {scenario}", file=sys.stderr)


def main() -> None:
    """Command line of `measure_all`."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--wanlab", type=Path, required=True, metavar="DIR", help="folder of wanlab.py")
    ap.add_argument("--out", type=Path, required=True, help="JSON lines are added to this file")
    ap.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    ap.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    ap.add_argument("--cc", nargs="+", choices=CCS, default=list(CCS))
    ap.add_argument("--limit-s", type=float, default=12.0, help="leave out cases that would take longer")
    ap.add_argument("--progress", action="store_true", help="also keep the bytes read over time")
    args = ap.parse_args()
    measure_all(
        args.wanlab,
        args.out,
        stages=args.stage,
        scenarios=args.scenario,
        ccs=args.cc,
        limit_s=args.limit_s,
        progress=args.progress,
    )


if __name__ == "__main__":
    main()
