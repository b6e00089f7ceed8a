"""Train a Q-network from a checkout of the repository; the same as ``itp train``."""

import sys

try:
    from itp_training.cli import main
except ModuleNotFoundError as error:
    if error.name != "itp":
        raise
    sys.exit("train_dqn.py needs the package itp: pip install '.[train]' in the repository's root")

if __name__ == "__main__":
    sys.exit(main(prog=f"python3 {sys.argv[0]}"))
