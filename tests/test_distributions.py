"""What `make dist` builds: wheel and sdist hold the package and nothing else, and are the same each time."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "coqui_scl_plugin" / "__init__.py").read_text()).group(1)
NAME = f"coqui_scl_plugin-{VERSION}"
INFO = {f"{NAME}.dist-info/{name}" for name in
        ("licenses/LICENSE", "METADATA", "WHEEL", "entry_points.txt", "top_level.txt", "RECORD")}  # fmt: skip
BESIDE = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
}


def tracked(*folders):
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def build(folder):
    """Build from a copy of what is tracked, in a folder of its own."""
    for name in tracked() | {"MANIFEST.in", "CITATION.cff", "scripts/build_distributions.py"}:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "source" / name)
    command = [sys.executable, folder / "source" / "scripts" / "build_distributions.py", folder / "dist"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return folder / "dist"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs into a distribution is what git tracks, and this is no clone")
    return build(tmp_path_factory.mktemp("first"))


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl").namelist()
    assert sorted(names) == sorted(tracked("coqui_scl_plugin") | INFO)


def test_the_sdist_holds_what_the_wheel_is_built_from(built):
    with tarfile.open(built / f"{NAME}.tar.gz") as sdist:
        names = {member.name.removeprefix(f"{NAME}/") for member in sdist.getmembers() if member.isfile()}
    assert {name for name in names if not name.startswith("coqui_scl_plugin.egg-info/")} == (
        tracked("coqui_scl_plugin") | BESIDE
    )


def test_a_second_build_elsewhere_is_the_same_to_the_byte(built, tmp_path):
    again = build(tmp_path)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in built.iterdir()
    }


def test_the_wheel_says_what_setup_cfg_does(built):
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        metadata, ends = (
            wheel.read(f"{NAME}.dist-info/METADATA").decode(),
            wheel.read(f"{NAME}.dist-info/entry_points.txt"),
        )
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = set(config["options.extras_require"])
    assert set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)) == extras
    assert f"Version: {VERSION}\n" in metadata
    assert b"coqui-scl = coqui_scl_plugin.cli:main" in ends


def test_the_citation_is_of_this_version():
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
