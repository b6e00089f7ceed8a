"""What the wheel and the source distribution hold."""

from __future__ import annotations

import tarfile
from importlib import metadata, util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Packages of the wheel, by the folder that holds them in the sources.
PACKAGES = {"itp": "src", "itp_training": "training", "itp_overhead": "bench/overhead"}
LEFT_OUT = {".pyx", ".c"}  # what only the compiler needs, beside CMakeLists.txt and the core's own headers


def sources():
    """{path in the wheel: path in the sources} of every file of the packages."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
                found[path.relative_to(ROOT / folder).as_posix()] = path.relative_to(ROOT).as_posix()
    return found


def test_the_installed_package_has_every_file_but_the_compilers():
    files = [str(file) for file in metadata.files("itp")]
    if not any(file.startswith("itp/__init__") for file in files):
        pytest.skip("itp is installed in place (make dev): there are no installed files")
    expected = {
        path
        for path in sources()
        if Path(path).suffix not in LEFT_OUT
        and Path(path).name != "CMakeLists.txt"
        and not ("_core" in path and path.endswith(".h"))
    }
    kept = {file for file in files if file.split("/")[0] in PACKAGES and not file.endswith(".pyc")}
    compiled = {file for file in kept if file.endswith((".so", ".pyd"))}
    assert kept - compiled == expected
    modules = {f"{Path(file).parent.as_posix()}/{Path(file).name.partition('.')[0]}" for file in compiled}
    transpiled = {path.removesuffix(".pyx") for path in sources() if path.endswith(".pyx")}
    assert modules == transpiled | {"itp/_core/_cyutility"}


def test_the_source_distribution_has_every_source_and_nothing_generated(tmp_path, monkeypatch):
    if util.find_spec("scikit_build_core") is None:
        pytest.skip("scikit-build-core is not installed: it makes the source distribution")
    from scikit_build_core.build import build_sdist

    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build_sdist(str(tmp_path))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", *sources().values()}
    assert needed <= held
    ours = (*(f"{folder}/{package}/" for package, folder in PACKAGES.items()),)
    assert {path for path in held if path.startswith(ours)} == set(sources().values())
