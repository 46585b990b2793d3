"""The command line: what goes where, every way of going wrong, and exit codes."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import faststyle
from faststyle import checkpoints
from faststyle.cli import COMMANDS, jobs, main
from faststyle.cli.console import needs, report
from faststyle.cli.jobs import Job, plan
from faststyle.errors import FaststyleError, ImageError
from faststyle.images import read_image

ROOT = Path(__file__).resolve().parents[1]
Pixels = NDArray[np.uint8]


@pytest.fixture
def folder(tmp_path: Path, negative: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photo.png, other.jpg, and `starry` in checkpoints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "_SOURCE_CHECKOUT", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for suffix in (".onnx", ".json"):
        shutil.copy(negative.with_suffix(suffix), tmp_path / "checkpoints" / f"starry{suffix}")
    Image.fromarray(pixels).save("photo.png")
    Image.fromarray(pixels).save("other.jpg", quality=95)
    return tmp_path


def command(*arguments: str, stdin: bytes = b"", module: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run it the way a user does."""
    door = ["-m", "faststyle"] if module else [str(ROOT / "infer.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *door, *arguments], input=stdin, capture_output=True, env=environment)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails with one line, and return that line."""
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("faststyle: error: ") and err.count("\n") == 1
    return err.removeprefix("faststyle: error: ").rstrip("\n")


def test_as_a_user_runs_it(folder: Path, pixels: Pixels) -> None:
    for module in (True, False):
        arguments = ["stylize"] * module + ["photo.png", "--model", "starry.onnx", "-o", "out.png"]
        done = command(*arguments, module=module)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"out.png\n", b"")
        assert np.array_equal(read_image("out.png").rgb, 255 - pixels)
        Path("out.png").unlink()


def test_from_standard_input_to_standard_output(folder: Path) -> None:
    done = command("stylize", "-", "-m", "starry", "-o", "-", stdin=Path("other.jpg").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    result = Image.open(io.BytesIO(done.stdout))
    assert (result.format, result.size) == ("JPEG", (41, 30))


def test_one_line_and_no_traceback_as_a_user_runs_it(folder: Path) -> None:
    done = command("stylize", "photo.png", "--model", "stary")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"faststyle: error: there is no model stary: did you mean starry?\n"


def test_wrong_usage_exits_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["stylize"],
        ["stylize", "-m", "starry"],
        ["stylize", "photo.png", "-m", "starry", "--strength", "1.5"],
        ["stylize", "photo.png", "-m", "starry", "--strength", "nan"],
        ["stylize", "photo.png", "-m", "starry", "--keep-colors", "hue"],
        ["stylize", "photo.png", "-m", "starry", "--quality", "101"],
        ["stylize", "photo.png", "-m", "starry", "--size", "0"],
        ["stylize", "photo.png", "-m", "starry", "--threads", "0"],
        ["stylize", "photo.png", "-m", "starry", "--provider", "gpu"],
        ["stylize", "photo.png", "-m", "starry", "--sise", "3"],
        ["info"],
        ["models", "starry"],
    ):
        assert main(arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert out == "" and err
    assert main(["stylize", "photo.png", "-m", "starry", "--sise", "3"]) == 2
    assert "--size" in capsys.readouterr().err, "a suggestion"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"faststyle {faststyle.__version__}\n"
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert name in text and line in text
    assert main([]) == 2
    assert "usage: faststyle COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: faststyle {name}" in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylise"]) == 2
    assert capsys.readouterr().err == "faststyle: error: there is no command stylise: did you mean stylize?\n"
    assert main(["xyzzy"]) == 2
    assert "see faststyle --help" in capsys.readouterr().err


def test_the_default_output_lies_beside_the_photo(
    folder: Path, pixels: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pixels).save("anim.gif")
    assert main(["stylize", "photo.png", "other.jpg", "anim.gif", "--model", "starry"]) == 0
    out, err = capsys.readouterr()
    assert out == "photo-starry.png\nother-starry.jpg\nanim-starry.png\n"
    assert err == "1/3 photo.png\n2/3 other.jpg\n3/3 anim.gif\n"
    assert Path("other-starry.jpg").read_bytes().startswith(b"\xff\xd8"), "a JPEG"


def test_a_folder_keeps_its_structure(folder: Path, pixels: Pixels, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("in/a.png", "in/sub/b.png", "in/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(name)
    for _ in range(2):  # the second time, the results of the first are not taken for photos
        assert main(["stylize", "in", "-m", "starry", "-o", "in/results"]) == 0
        assert capsys.readouterr().out == "in/results/a.png\nin/results/sub/b.png\n"


def test_names_of_any_alphabet_are_printed(folder: Path) -> None:
    shutil.copy("photo.png", "фото.png")
    line = [sys.executable, "-m", "faststyle", "stylize", "фото.png", "-m", "starry", "-o", "новое.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=environment, capture_output=True)
    assert (done.returncode, done.stdout.decode()) == (0, "новое.png\n"), done.stderr.decode()


def test_a_single_photo_into_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "photo.png", "-m", "starry", "-o", "new/deep"]) == 0
    assert capsys.readouterr().out == f"{Path('new/deep/photo.png')}\n"
    assert Path("new/deep/photo.png").is_file()


def test_size_and_quality(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "photo.png", "-m", "starry", "-o", "small.png", "--size", "24"]) == 0
    assert read_image("small.png").rgb.shape == (18, 24, 3)
    for quality in ("20", "100"):
        assert main(["stylize", "photo.png", "-m", "starry", "-o", f"{quality}.jpg", "--quality", quality]) == 0
    assert Path("20.jpg").stat().st_size < Path("100.jpg").stat().st_size


def test_a_batch_goes_on_past_broken_photos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.jpg").write_bytes(Path("other.jpg").read_bytes()[:400])
    Path("empty").mkdir()
    photos = ["missing.png", "photo.png", "broken.jpg", "empty", "other.jpg"]
    assert main(["stylize", *photos, "-m", "starry", "-o", "out"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{Path('out/photo.png')}\n{Path('out/other.jpg')}\n"
    errors = [line for line in err.splitlines() if line.startswith("faststyle: error: ")]
    assert "missing.png does not exist" in errors[0]
    assert "broken.jpg cannot be read" in errors[1]
    assert "empty holds no photos" in errors[2]
    assert errors[3] == "faststyle: error: 3 of 5 photos failed: missing.png, broken.jpg, empty"
    assert sorted(path.name for path in Path("out").iterdir()) == ["other.jpg", "photo.png"]


def test_bad_photos(folder: Path, pixels: Pixels, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("text.png").write_text("no picture")
    Image.fromarray(pixels[:1, :1]).save("dot.png")
    assert "does not exist: check the path" in fails(capsys, "stylize", "missing.png", "-m", "starry")
    assert "does not exist: check the path" in fails(capsys, "stylize", "missing/", "-m", "starry", "-o", "out")
    assert "empty holds no photos" in fails(capsys, "stylize", "empty", "-m", "starry", "-o", "out")
    assert "text.png is no picture that can be read" in fails(capsys, "stylize", "text.png", "-m", "starry")
    assert "dot.png has 1 x 1 pixels: take one of at least 16 x 16" in fails(
        capsys, "stylize", "dot.png", "-m", "starry", "-o", "out"
    )
    assert not Path("out").exists()


def test_bad_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.onnx").write_text("no model")
    assert fails(capsys, "stylize", "photo.png", "-m", "stary") == "there is no model stary: did you mean starry?"
    assert "text.onnx is no ONNX model" in fails(capsys, "stylize", "photo.png", "-m", "text.onnx")
    assert "no ONNX model" in fails(capsys, "stylize", "photo.png", "-m", "photo.png")
    assert "has no cuda provider: pip install" in fails(
        capsys, "stylize", "photo.png", "-m", "starry", "--provider", "cuda"
    )


def test_bad_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["stylize", "photo.png", "-m", "starry", "-o"]
    Path("file").touch()
    assert "which cannot be written: end it in" in fails(capsys, *one, "out.xyz")
    assert "cannot be created (File exists): name another" in fails(capsys, *one, "file")
    assert "cannot be created (Not a directory)" in fails(capsys, *one, "file/deep/out.png")
    assert "is one of the photos and would be overwritten" in fails(capsys, *one, "photo.png")
    assert "is one of the photos and would be overwritten" in fails(capsys, *one, ".")
    assert "cannot go to one file out.png: name a folder" in fails(
        capsys, "stylize", "photo.png", "other.jpg", "-m", "starry", "-o", "out.png"
    )
    assert "need a folder: name one with -o" in fails(capsys, "stylize", "checkpoints", "-m", "starry")
    assert "- serves one photo only" in fails(capsys, "stylize", "photo.png", "-", "-m", "starry")
    assert "no name to go by in out" in fails(capsys, "stylize", "-", "-m", "starry", "-o", "out")
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "file", "other.jpg", "photo.png"]


def test_a_read_only_folder_and_a_full_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (errno.EROFS, errno.ENOSPC):

        def write(self: Path, data: bytes, number: int = number) -> int:
            raise OSError(number, os.strerror(number), str(self))

        monkeypatch.setattr(Path, "write_bytes", write)
        message = fails(capsys, "stylize", "photo.png", "-m", "starry", "-o", "out.png")
        assert message.startswith(f"out.png cannot be written ({os.strerror(number)}): ")
        assert not Path("out.png").exists()


def test_a_write_that_fails_half_way_leaves_nothing(folder: Path) -> None:
    """For real: the system refuses to let any file grow beyond 1,000 bytes."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save("noise.png")
    before = sorted(folder.iterdir())
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from faststyle.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, "stylize", "noise.png", "-m", "starry", "-o", "out.png"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == b"faststyle: error: out.png cannot be written (File too large): free some space or choose another disk\n"
    )
    assert sorted(folder.iterdir()) == before


def test_a_model_without_a_card_works_with_a_note(
    folder: Path, zoo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stylize", "photo.png", "-m", str(zoo_model), "-o", "out.png"]) == 0
    out, err = capsys.readouterr()
    assert out == "out.png\n"
    assert err.startswith("faststyle: note: ") and "has no faststyle card" in err


def test_info(folder: Path, zoo_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "starry"]) == 0
    text = capsys.readouterr().out
    assert "Negative, Nobody, 2024, CC0" in text
    assert "channels 16 48, family lowres" in text
    assert "image uint8 [N, H, W, 3] -> stylized uint8 [N, H, W, 3]" in text
    assert main(["info", "starry", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["styles"][0]["title"] == "Negative"
    assert main(["info", str(zoo_model)]) == 0
    assert "none: not exported by faststyle" in capsys.readouterr().out
    assert main(["info", str(zoo_model), "--json"]) == 0
    signature = "input1 float [1, 3, H, W] -> output1 float [1, 3, H, W]"
    assert json.loads(capsys.readouterr().out) == {"signature": signature}
    assert "did you mean starry?" in fails(capsys, "info", "stary")


def test_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("checkpoints/starry.onnx", "checkpoints/alone.onnx")
    shutil.copy("checkpoints/starry.onnx", "checkpoints/odd.onnx")
    Path("checkpoints/odd.json").write_text("{")
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert out == "alone\nodd\nstarry  Negative, Nobody, 2024\n"
    assert "odd.json cannot be read" in err and err.count("\n") == 1
    shutil.rmtree("checkpoints")
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("faststyle: note: there are no models")


def test_names_are_made_distinct(folder: Path) -> None:
    for name in ("a/x.jpg", "b/X.jpg", "c/x-2.jpg"):
        Path(name).parent.mkdir()
        Path(name).touch()
    planned = plan(["a/x.jpg", "b/X.jpg", "c/x-2.jpg", "a/x.jpg"], "out", "starry")
    assert [job.target for job in planned] == [Path("out/x.jpg"), Path("out/X-2.jpg"), Path("out/x-2-2.jpg")]
    planned = plan(["a/x.jpg", "a/x.gif", "a/x.png"], None, "starry")
    assert [job.target for job in planned] == [Path(f"a/x-starry{end}") for end in (".jpg", ".png", "-2.png")]


def test_no_result_hits_a_photo(folder: Path) -> None:
    Path("photo-starry.png").touch()
    with pytest.raises(ImageError, match=r"photo-starry\.png is one of the photos"):
        plan(["photo.png", "photo-starry.png"], None, "starry")
    Path("link.png").symlink_to("photo.png")
    with pytest.raises(ImageError, match=r"link\.png is one of the photos"):
        plan(["photo.png"], "link.png", "starry")


def test_no_picture_goes_to_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(["photo.png"], "-", "starry") == [Job("photo.png", None)]
    monkeypatch.setattr(jobs.sys.stdout, "isatty", lambda: True)  # type: ignore[attr-defined]
    with pytest.raises(ImageError, match="would go to the terminal"):
        plan(["-"], None, "starry")


def test_a_bar_on_a_terminal(folder: Path) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "faststyle", "stylize", "photo.png", "other.jpg", "-m", "starry", "-o", "out"],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )
    os.close(follower)
    text = os.read(leader, 10_000).decode()
    os.close(leader)
    assert done.stdout.splitlines() == [b"out/photo.png", b"out/other.jpg"]
    assert "[##########          ] 1/2 other.jpg" in text
    assert text.endswith("\r\033[K")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], None]]:
    """Makes the command `models` raise something."""

    def arrange(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(checkpoints, "list_models", fail)

    yield arrange


def test_ctrl_c_is_quiet(interrupted: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(KeyboardInterrupt())
    assert main(["models"]) == 130
    assert capsys.readouterr() == ("", "")


def test_other_system_errors_are_one_line(
    interrupted: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(PermissionError(errno.EACCES, "Permission denied", "checkpoints"))
    assert fails(capsys, "models") == "checkpoints: Permission denied"
    interrupted(OSError("something odd"))
    assert fails(capsys, "models") == "something odd"


def test_a_closed_pipe_is_no_error_message(folder: Path) -> None:
    script = f"{sys.executable} -m faststyle info starry --json | true"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )
    assert done.stderr == b""


def test_a_file_name_that_is_no_text(folder: Path) -> None:
    name = os.fsdecode(b"photo\xff.png")
    try:
        shutil.copy("photo.png", name)
    except OSError:
        pytest.skip("this file system takes text only")
    done = command("stylize", name, "-m", "starry")
    assert (done.returncode, done.stdout) == (0, b"photo\xff-starry.png\n")


def test_a_missing_part_is_named_with_its_extra() -> None:
    with pytest.raises(FaststyleError) as error, needs("train"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    message = "this needs torch, which is not installed: pip install 'faststyle-onnx[train]'"
    assert str(error.value) == message


def test_messages_do_not_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    report("a message")
    assert capsys.readouterr() == ("", "faststyle: error: a message\n")
