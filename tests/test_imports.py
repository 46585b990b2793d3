"""Who may import whom: read from the source of every file, and tried in fresh interpreters."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "faststyle"

LEAVES = {"errors", "config", "modelcard", "files", "checkpoints", "images"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "modelcard": {"errors"},
    "files": {"errors"},
    "checkpoints": {"errors", "modelcard"},
    "images": {"errors", "files"},
    "colors": {"errors"},
    "sheet": set(),
    "video": {"errors", "files"},
    "runtime": {"images", "modelcard", "checkpoints", "errors"},
    "losses": {"errors", "colors"},
    "nets": {"colors"} | LEAVES,
    "graph": {"nets", "runtime"},
    "export": {"graph", "nets", "runtime"} | LEAVES,
    "quantize": {"export", "nets", "runtime"} | LEAVES,
    "training": {"export", "losses", "nets"} | LEAVES,
    "optimize": {"losses", "nets", "colors"} | LEAVES,
    "evaluate": {"losses", "nets", "optimize", "runtime"} | LEAVES,
}
"""For each room, the other rooms that it may import. The command line and the package itself may import all."""

LIBRARIES: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "modelcard": set(),
    "files": set(),
    "checkpoints": set(),
    "images": {"numpy", "PIL"},
    "colors": {"numpy"},
    "sheet": {"numpy", "PIL"},
    "video": {"numpy", "PIL", "av"},
    "runtime": {"numpy", "PIL", "onnxruntime"},
    "losses": {"torch"},
    "cli": {"tyro"},
    "__init__": set(),
    "__main__": set(),
}
"""For each light room, the libraries that it may import besides Python's own."""

AT_ONCE = {"cli", "config", "errors", "modelcard"}
"""What the command line may import when it is itself imported; the rest waits for the command to run."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; those for type checkers alone do not count, nor inner ones if `top_only`."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            if node.module == "faststyle":
                yield from (f"faststyle.{alias.name}" for alias in node.names)
            else:
                yield node.module


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_arrows_between_rooms(path: Path) -> None:
    room = room_of(path)
    imported = {name.split(".")[1] for name in imports_of(path) if name.startswith("faststyle.")} - {
        room,
        "__version__",
    }
    if room in ROOMS:
        assert imported <= ROOMS[room], f"{room} may import {sorted(ROOMS[room])} only"
    else:
        assert room in ("cli", "__init__", "__main__"), f"say in this test what the room {room} may import"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_libraries_of_the_light_rooms(path: Path) -> None:
    if room_of(path) not in LIBRARIES:
        return
    tops = {name.split(".")[0] for name in imports_of(path)} - {"faststyle"}
    assert tops - set(sys.stdlib_module_names) <= LIBRARIES[room_of(path)]


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").rglob("*.py")), ids=lambda path: path.name)
def test_commands_import_heavy_parts_when_they_run(path: Path) -> None:
    imported = {name for name in imports_of(path, top_only=True) if name.startswith("faststyle.")}
    assert {name.split(".")[1] for name in imported} <= AT_ONCE


def loaded(script: str, *arguments: str, cwd: Path) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has loaded after a script."""
    ending = "\nimport sys\nprint('|'.join(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script + ending, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split("|"))


HEAVY = {"torch", "torchvision", "pytorch_lightning", "onnx", "safetensors", "scipy", "skimage", "tensorboard"}
RUNTIME = {"onnxruntime", "numpy", "PIL"}
RUN = "import sys; from faststyle.cli import main; code = main(sys.argv[1:]); assert code == 0, code"


@pytest.mark.parametrize(
    "script",
    ["import faststyle", "import faststyle.cli", "import faststyle; faststyle.FaststyleError, faststyle.ModelCard"],
)
def test_importing_the_package_costs_nothing(script: str, tmp_path: Path) -> None:
    assert not loaded(script, cwd=tmp_path) & (HEAVY | RUNTIME | {"tyro"})


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_load_nothing(arguments: list[str], tmp_path: Path) -> None:
    assert not loaded(RUN, *arguments, cwd=tmp_path) & (HEAVY | RUNTIME | {"tyro"})


@pytest.mark.parametrize(
    "command", ["stylize", "sheet", "train", "dream", "gatys", "export", "evaluate", "info", "models", "weights"]
)
def test_help_of_a_command_loads_no_runtime(command: str, tmp_path: Path) -> None:
    assert not loaded(RUN, command, "--help", cwd=tmp_path) & (HEAVY | RUNTIME)


def test_listing_models_loads_no_runtime(tmp_path: Path) -> None:
    assert not loaded(RUN, "models", cwd=tmp_path) & (HEAVY | RUNTIME)


def test_repainting_loads_the_runtime_only(tmp_path: Path, negative: Path) -> None:
    from PIL import Image

    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    names = loaded(RUN, "stylize", "photo.png", "--model", str(negative), "-o", "out.png", cwd=tmp_path)
    assert (tmp_path / "out.png").is_file()
    assert names >= RUNTIME and not names & HEAVY


def test_the_public_names_are_there() -> None:
    import faststyle

    for name in faststyle.__all__:
        assert getattr(faststyle, name) is not None
        assert name in dir(faststyle)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = faststyle.nonsense
