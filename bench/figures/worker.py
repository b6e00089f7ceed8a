"""Times subjects in one installed version of ITP: a program that answers lines of JSON by lines of JSON.

    worker.py BENCH TIMING        the folder of the package ``figures``, and the file ``timing.py``

First it prints {"folder"} of its ITP. ``["make", NAME]`` makes a subject ready and is answered by {};
``["time", SECONDS]`` times it and is answered by {"median_us"}. A failure is answered by {"error"}.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

_MOST_CALLS = 1_000_000


def main(bench: str, timing_file: str) -> None:
    """Answer until standard input ends."""
    sys.path.append(bench)
    from figures.subjects import SUBJECTS

    # That of this version of the benchmark, also where the installed version has one.
    spec = importlib.util.spec_from_file_location("figures_timing", timing_file)
    assert spec is not None
    assert spec.loader is not None
    timing = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = timing
    spec.loader.exec_module(timing)

    import itp

    answer({"folder": str(Path(itp.__file__).parent)})
    subject = None
    for line in sys.stdin:
        asked, value = json.loads(line)
        try:
            if asked == "make":
                subject = None  # before the next one takes memory
                made = SUBJECTS[value]()
                subject = timing.Subject(name=value, call=made.call, after=made.after, times_ns=made.times_ns)
                timing.interleave([subject], seconds=0.05, calls=_MOST_CALLS, rounds=1)
                answer({})
            else:
                (taken,) = timing.interleave([subject], seconds=value, calls=_MOST_CALLS, rounds=1)
                answer({"median_us": taken.p50_us})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def answer(content: dict[str, Any]) -> None:
    """Print a line."""
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
