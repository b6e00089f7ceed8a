"""Install packages into the environment whose Python runs this, in the versions that constraints.txt has.

``python tools/install.py build 'itp[cli,transport]' test``: each argument is a dependency group of
pyproject.toml, or the project with extras, which stands for what they depend on. The group ``build`` includes
what the build system requires. With ``--oldest`` each package comes in the lowest version that is allowed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10: pip brings its own
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def name_of(requirement: str) -> str:
    """The normalised name of the package that a requirement names."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    if found is None:
        raise SystemExit(f"install.py: no package is named by {requirement!r}")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def release(version: str) -> str:
    """The version without its local part, and with 2.4.0 as 2.4."""
    return re.sub(r"(\.0)+$", "", version.partition("+")[0])


class Lists:
    """The lists of packages that pyproject.toml holds."""

    def __init__(self) -> None:
        table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        project = table["project"]
        self.name = project["name"]
        self.core = project["dependencies"]
        self.extras = project["optional-dependencies"]
        self.groups = dict(table["dependency-groups"])
        self.groups["build"] = [*table["build-system"]["requires"], *self.groups["build"]]

    def expand(self, words: list[str]) -> list[str]:
        """The requirements that these words stand for, each once."""
        requirements: dict[str, None] = {}
        for word in words:
            for requirement in self._expand(word):
                requirements[requirement] = None
        return list(requirements)

    def _expand(self, word: str) -> list[str]:
        if word in self.groups:
            return self.expand(self.groups[word])
        if name_of(word) != self.name:
            return [word]
        extras = re.search(r"\[(.*)\]", word)
        names = re.split(r"\s*,\s*", extras[1]) if extras else []
        unknown = [name for name in names if name not in self.extras]
        if unknown:
            raise SystemExit(f"install.py: no extra {unknown[0]!r}; there are {', '.join(self.extras)}")
        return self.core + self.expand([entry for name in names for entry in self.extras[name]])

    def lowest(self) -> dict[str, str]:
        """By package, a constraint to the lowest version that any list allows."""
        everything = self.expand([*self.groups, f"{self.name}[{','.join(self.extras)}]"])
        return {name_of(entry): re.sub(r">=\s*", "==", entry) for entry in everything if ">=" in entry}


def pip_install(arguments: list[str], constraints: Path, quiet: bool = False) -> bool:
    """Whether pip could install them; ``quiet`` keeps its complaints to itself."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    done = subprocess.run(
        [*command, "-c", str(constraints), *arguments],
        stderr=subprocess.DEVNULL if quiet else None,
        check=False,
    )
    return done.returncode == 0


def install_torch(constraints: Path) -> bool:
    """The CPU's build of PyTorch where an index has it, else the plain one, which may bring CUDA along."""
    pins = re.findall(r"^torch\s*==\s*([^\s;]+)", constraints.read_text(encoding="utf-8"), re.MULTILINE)
    if len(pins) != 1:
        raise SystemExit("install.py: expected one version of torch among the constraints")
    try:
        if release(metadata.version("torch")) == release(pins[0]):
            return True
    except metadata.PackageNotFoundError:
        pass
    plain, cpu = f"torch=={pins[0]}", f"torch=={pins[0]}+cpu"
    if pip_install([cpu], constraints, quiet=True):
        return True
    note = f"install.py: pip finds no {cpu}, the CPU's build; installing {plain}"
    if sys.platform == "linux":
        note += (
            f", with which several GB of CUDA's libraries come.\n"
            f"  To spare them, stop this (Ctrl-C) and set PIP_EXTRA_INDEX_URL={CPU_INDEX}"
        )
    print(note, file=sys.stderr, flush=True)
    if pip_install([plain], constraints):
        return True
    print(f"install.py: neither {cpu} nor {plain} could be installed", file=sys.stderr)
    return False


def main() -> int:
    """0 if everything is installed, 1 if not."""
    parser = argparse.ArgumentParser(prog="install.py", description=__doc__)
    parser.add_argument("words", nargs="+", metavar="GROUP", help="a dependency group, or itp[EXTRA,...]")
    parser.add_argument("--oldest", action="store_true", help="the lowest versions that are allowed")
    args = parser.parse_args()
    lists = Lists()
    requirements = lists.expand(args.words)
    with tempfile.TemporaryDirectory() as folder:
        constraints = ROOT / "constraints.txt"
        if args.oldest:
            lowest = lists.lowest()
            pinned = [
                line.partition("#")[0].strip()
                for line in constraints.read_text(encoding="utf-8").splitlines()
            ]
            kept = [line for line in pinned if line and name_of(line) not in lowest]
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join([*lowest.values(), *kept]), encoding="utf-8")
        if any(name_of(requirement) == "torch" for requirement in requirements) and not install_torch(
            constraints
        ):
            return 1
        return 0 if pip_install(requirements, constraints) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
