"""The house rules that no single file can show: floors, names, dependencies, no traces of a machine."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmmed"

CATCH_ALL_NAMES = re.compile(r"utils?|misc|common|helpers?|v\d+|legacy")
# A path that exists only on somebody's machine; one inside an address or after a dot is none.
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:work|root|home)/")


def _files_of_the_project() -> list[Path]:
    """Every file that git tracks or would track."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # A checkout that belongs to another user (as in a container) is still ours to read.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def _imported_packages(file: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, those inside functions too."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.partition(".")[0] for name in plain | from_}


def _declared_dependencies() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    optional = [names for extra, names in setup["options.extras_require"].items() if extra != "dev"]
    lines = "\n".join([setup["options"]["install_requires"], *optional]).split("\n")
    return {canonicalize_name(Requirement(line).name) for line in lines if line}


def test_imports_go_down_the_floors_only() -> None:
    # In its own process, because it turns off the loggers of the one it runs in.
    asked = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_or_folder_of_the_package_has_a_catch_all_name() -> None:
    found = [path for path in PACKAGE.rglob("*") if CATCH_ALL_NAMES.fullmatch(path.stem)]
    assert not found, "name it by what it holds"


def test_every_imported_package_is_a_declared_dependency() -> None:
    distributions = packages_distributions()
    declared = _declared_dependencies()
    undeclared = {
        f"{file.relative_to(ROOT)}: {package}"
        for file in PACKAGE.rglob("*.py")
        for package in _imported_packages(file) - sys.stdlib_module_names - {"mmmed"}
        if not declared & {canonicalize_name(name) for name in distributions.get(package, [package])}
    }
    assert not undeclared, "name it in install_requires, or in an extra, of setup.cfg"


def test_no_text_holds_a_path_of_somebodys_machine() -> None:
    found = []
    for path in _files_of_the_project():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert not found


@pytest.mark.parametrize("text", ["see {0}work/main", "'{0}root/.cache'", "={0}home/me", "in {0}work/"])
def test_a_machine_path_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text.format("/"))


@pytest.mark.parametrize("text", ["https://example.org{0}work/1", "../..{0}work/x", "frame{0}work/", "{0}workers/2"])
def test_an_address_is_not_taken_for_a_machine_path(text: str) -> None:
    assert not MACHINE_PATH.search(text.format("/"))
