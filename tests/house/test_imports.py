"""Who may import whom: every import and cimport, those under TYPE_CHECKING and in functions too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.core

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "itp": ROOT / "src/itp",
    "itp_training": ROOT / "training/itp_training",
    "itp_overhead": ROOT / "bench/overhead/itp_overhead",
}

# A room may import those it names, and what is in it.
BASE = {"itp.errors", "itp._util"}
CORE = BASE | {"itp._core"}
SCHEMA = CORE | {"itp.schema", "itp.actions"}
PRODUCT = SCHEMA | {"itp.models", "itp.experience"}
SIMULATED = SCHEMA | {"itp.experience.record", "itp.sim"}
MEASURED = SIMULATED | {"itp.models", "itp.policies", "itp.evaluation"}
EVERYTHING = MEASURED | {"itp", "itp.experience", "itp.partitioner"}
MAY_IMPORT = {
    "itp.errors": set(),
    "itp._util": BASE,
    "itp._core": BASE,
    "itp.actions": CORE,
    "itp.schema": CORE | {"itp.actions"},
    "itp.models": SCHEMA,
    "itp.experience.record": SCHEMA,
    "itp.experience": SCHEMA,
    "itp.attribution": SCHEMA,
    "itp.explain": SCHEMA | {"itp.attribution"},
    "itp.state_file": SCHEMA,
    "itp.partitioner": PRODUCT | {"itp.explain", "itp.state_file"},
    "itp.telemetry": PRODUCT | {"itp.partitioner"},
    "itp.transport.protocol": SCHEMA,
    "itp.transport": PRODUCT | {"itp.partitioner"},
    "itp.sim": SIMULATED,
    "itp.policies": SIMULATED | {"itp.models"},
    "itp.evaluation": MEASURED,
    "itp.cli": EVERYTHING | {"itp.transport"},
    # The face of the package: what it exports, wherever that is.
    "itp": EVERYTHING,
    "itp_training": EVERYTHING,
    "itp_overhead": EVERYTHING,
}
# Public, and loaded when it is called.
EXCEPTIONS = {("itp.partitioner", "itp.evaluation")}
NO_IO = {
    "socket",
    "threading",
    "time",
    "os",
    "select",
    "selectors",
    "ssl",
    "asyncio",
    "io",
    "pathlib",
    "tempfile",
}


def modules() -> dict[str, list[Path]]:
    """The files of every module: for a compiled one its .pyx, .pxd and .pyi."""
    found: dict[str, list[Path]] = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".pyx", ".pxd", ".pyi"):
                parts = path.relative_to(folder).with_suffix("").parts
                name = ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))
                found.setdefault(name, []).append(path)
    return found


MODULES = modules()
_CYTHON = re.compile(
    r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^\n]*)|^\s*c?import\s+([\w., ]+)", re.MULTILINE
)


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, as far as they are named in its text."""
    found = set()
    for path in MODULES[module]:
        text = path.read_text("utf-8")
        if path.suffix in (".py", ".pyi"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    assert node.level == 0, f"{path}: imports are absolute here"
                    found |= imported(node.module or "", [alias.name for alias in node.names])
        else:
            text = re.sub(r'"""[\s\S]*?"""|#[^\n]*', "", text)
            for source, names, plain in _CYTHON.findall(text):
                if plain:
                    found |= {name.strip().split(" ")[0] for name in plain.split(",")}
                else:
                    listed = names.strip("() \n").replace("\n", " ").split(",")
                    found |= imported(source, [name.strip().split(" ")[0] for name in listed if name.strip()])
    return found


def imported(source: str, names: list[str]) -> set[str]:
    """What ``from source import names`` imports: the modules among the names, else the source itself."""
    members = {f"{source}.{name}" for name in names}
    inside = members & MODULES.keys()
    return inside if inside == members else inside | {source}


GRAPH = {module: imports_of(module) for module in MODULES}


def room_of(module: str) -> str:
    """The most special room that a module belongs to."""
    inside = [room for room in MAY_IMPORT if module == room or module.startswith(room + ".")]
    # Only __init__ is the face itself.
    return max((room for room in inside if room != "itp" or module == "itp"), key=len)


def ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def allowed(module: str, target: str) -> bool:
    room = room_of(module)
    if target == room or target.startswith(room + "."):
        return True
    if any((room, other) in EXCEPTIONS for other in (room_of(target), target)):
        return True
    return any(
        target == other or (other != "itp" and target.startswith(other + ".")) for other in MAY_IMPORT[room]
    )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_points_upwards(module):
    wrong = sorted(target for target in GRAPH[module] if ours(target) and not allowed(module, target))
    assert not wrong, f"{module} (room {room_of(module)}) imports {', '.join(wrong)}"


def test_no_module_imports_itself_through_others():
    graph = {
        module: {t for t in targets if t in MODULES and t != module} for module, targets in GRAPH.items()
    }
    for module, target in (("itp.partitioner", t) for t in list(graph["itp.partitioner"])):
        if (room_of(module), room_of(target)) in EXCEPTIONS:
            graph[module].discard(target)
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            pytest.fail("a circle: " + " -> ".join([*way[way.index(module) :], module]))
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, [*way, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])


@pytest.mark.parametrize("module", sorted(m for m in MODULES if room_of(m) == "itp.transport.protocol"))
def test_the_protocol_does_no_io(module):
    assert not {target.partition(".")[0] for target in GRAPH[module]} & NO_IO


def test_the_exceptions_are_needed():
    for module, room in EXCEPTIONS:
        assert any(room_of(target) == room for target in GRAPH[module] if ours(target))


def test_the_test_reads_all_kinds_of_imports():
    assert "itp.models.load" in GRAPH["itp.partitioner"]  # within a function
    assert "itp._core.order" in GRAPH["itp._core.ledger"]  # cimport in a .pyx
    assert "itp._core.rng" in GRAPH["itp._core.decide"]  # cimport in a .pxd
    assert "itp.errors" in GRAPH["itp._core.decider"]  # import in a .pyx


def test_the_package_has_at_most_twenty_entries():
    entries = [path.name for path in (ROOT / "src/itp").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)
