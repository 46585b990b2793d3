"""Every command that the README prints is run, in a copy of the project, with short settings where it would take
long."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)

Shell = Callable[[str], str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files as a stranger's clone holds them, with the photos that the README speaks of."""
    home = tmp_path_factory.mktemp("clone") / "faststyle"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "out", "runs", "__pycache__", ".*_cache", "*.egg-info", "coco", "demo"
    )
    shutil.copytree(ROOT, home, ignore=ignore)
    photos = Path(skimage.data.__file__).parent
    photo = Image.open(photos / "rocket.jpg").resize((320, 213))
    photo.save(home / "photo.jpg")
    photo.save(home / "another.png")
    (home / "holiday").mkdir()
    photo.save(home / "holiday" / "beach.jpg")
    Image.open(photos / "coffee.png").resize((300, 200)).save(home / "painting.jpg")
    coco = home / "data" / "coco" / "train2017"
    coco.mkdir(parents=True)
    for name in ("astronaut", "chelsea", "coffee"):
        Image.open(photos / f"{name}.png").resize((96, 96)).save(coco / f"{name}.jpg")
    return home


@pytest.fixture
def shell(project: Path) -> Shell:
    binaries = str(Path(sys.executable).parent)

    def run(command: str) -> str:
        # Not as a part of the make that may run these tests.
        outer = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
        environment = {**outer, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(project)}
        done = subprocess.run(command, shell=True, cwd=project, env=environment, capture_output=True, timeout=400)
        assert done.returncode == 0, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done.stdout.decode(errors="replace")

    return run


SHORT = " --max-steps 2 --crops 64x2:1"


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def as_printed(shell: Shell, project: Path, line: str) -> None:
    shell(line)


def make_demo(shell: Shell, project: Path, line: str) -> None:
    # The environment that runs this test stands in for the one that make would set up.
    venv = sys.prefix
    out = shell(f"make -o {venv}/demo {line.removeprefix('make ')} VENV={venv} DEMO_TIME=00:00:03")
    assert last_line(out) == "out/demo.jpg"
    with (
        Image.open(project / "out" / "demo.jpg") as result,
        Image.open(project / "data" / "demo" / "photo.jpg") as photo,
    ):
        assert result.size == photo.size


def make_test(shell: Shell, project: Path, line: str) -> None:
    # Run for real it would run this test: what it would do is checked instead.
    plan = shell(f"{line} --dry-run")
    assert all(tool in plan for tool in ("ruff check", "ruff format --check", "mypy", "pytest", ".[cpu,train,dev]"))


def venv(shell: Shell, project: Path, line: str) -> None:
    shell(line.replace("-m venv", "-m venv --without-pip") + " && python --version")
    shutil.rmtree(project / ".venv")


def install(shell: Shell, project: Path, line: str) -> None:
    match = re.fullmatch(r"pip install -e '\.\[([\w,]+)\]'", line)
    assert match, line
    known = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    assert all(re.search(rf"^{extra} = ", known, re.M) for extra in match[1].split(","))


def train(shell: Shell, project: Path, line: str) -> None:
    line = re.sub(r" --max-time \S+", "", line)
    for path in (project / "out").glob("demo.*"):  # make demo made them already
        path.unlink()
    model = last_line(shell(line + SHORT))
    assert (project / model).is_file()


def coco(shell: Shell, project: Path, line: str) -> None:
    # Downloading is tested against a server of our own, in tests/data.
    assert "train2017" in shell(f"{line} --help")


def tensorboard(shell: Shell, project: Path, line: str) -> None:
    shell(f"{line} --inspect")


def optimise(shell: Shell, project: Path, line: str) -> None:
    short = {"gatys": " --size 64 --steps 2", "dream": " --size 64 --steps 1"}[line.split()[1]]
    line = re.sub(r"--zoom \d+", "--zoom 2", line)
    result = last_line(shell(f"{sys.executable} -m {line}" + ("" if "--list-layers" in line else short)))
    assert result == "relu5_3" if "--list-layers" in line else (project / result).is_file()


def writes_a_file(shell: Shell, project: Path, line: str) -> None:
    assert (project / last_line(shell(f"{sys.executable} -m {line}"))).is_file()


def evaluate(shell: Shell, project: Path, line: str) -> None:
    out = shell(f"{sys.executable} -m {line} --sizes 64 --count 1 --steps 1")
    assert last_line(out).startswith("equals ")


HOW: dict[str, Callable[[Shell, Path, str], None]] = {
    "make demo": make_demo,
    "make test": make_test,
    "python3 -m venv": venv,
    "pip install": install,
    "python train.py": train,
    "python data/fetch_coco.py": coco,
    "tensorboard": tensorboard,
    "faststyle evaluate": evaluate,
    "faststyle sheet": writes_a_file,
    "faststyle export": writes_a_file,
    "faststyle": optimise,
    "python": as_printed,
}


@pytest.mark.vgg
@pytest.mark.parametrize("line", LINES)
def test_command(shell: Shell, project: Path, line: str) -> None:
    how = next((how for start, how in HOW.items() if line.startswith(start)), None)
    assert how is not None, f"the README's command {line!r} has no test"
    how(shell, project, line)


@pytest.mark.vgg
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet(project: Path, snippet: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", snippet], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_of_commands_is_complete() -> None:
    from faststyle.cli import COMMANDS

    assert set(re.findall(r"^\| `faststyle (\w+)", README, re.M)) == set(COMMANDS)


def test_pictures_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
