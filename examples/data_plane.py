"""Compile `data_plane.c`, and have it decide in threads of its own, without Python.

python examples/data_plane.py [--model dqn_v1] [--threads 2] [--decisions 200000]

Without a model the heuristic decides.
"""

import argparse
import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import itp

SOURCE = Path(__file__).with_name("data_plane.c")


def compiled(folder: str) -> ctypes.CDLL:
    """The example as a shared library."""
    library = Path(folder) / "data_plane.so"
    compiler = os.environ.get("CC", "cc")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [compiler, *flags, f"-I{itp.get_include()}", SOURCE, "-o", library, "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(os.fspath(library))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a shipped model's name, or a file; without, the heuristic decides")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--decisions", type=int, default=200_000, help="of each thread")
    args = parser.parse_args()
    if args.threads < 1 or args.decisions < 1:
        parser.error("--threads and --decisions: at least 1")
    # Held until the end: the library reads the model in place.
    model = None if args.model is None else itp.native_model(args.model)
    address = None if model is None else model.address
    with tempfile.TemporaryDirectory() as folder:
        run = compiled(folder).data_plane
        run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.POINTER(ctypes.c_int64),
            ctypes.POINTER(ctypes.c_double),
        ]
        sent, mean_us = (ctypes.c_int64 * 4)(), ctypes.c_double()
        # ctypes gives the GIL away for the call, and the library never asks for it.
        status = run(itp.c_api(), address, args.threads, args.decisions, sent, ctypes.byref(mean_us))
    if status:
        raise SystemExit(f"the data plane stopped with status {status}")
    total = sum(sent)
    decides = "heuristic" if model is None else model.version
    print(f"{decides}: {args.threads} threads, {args.decisions} decisions each")
    print(f"{mean_us.value:.2f} us a decision")
    for i, n_bytes in enumerate(sent):
        print(f"stream {i}: {n_bytes} bytes, {100 * n_bytes / total:.1f} %")


if __name__ == "__main__":
    main()
