"""`faststyle dream` as a command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torchvision.models import googlenet

from faststyle.cli import main
from faststyle.nets.lossnet import LAYERS


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_vgg: str) -> list[str]:
    """A folder with a photo and a guide; the command line of a tiny dream."""
    random = np.random.default_rng(0)
    for name in ("photo.png", "guide.png"):
        Image.fromarray(random.integers(0, 256, (40, 52, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "text.jpg").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return ["dream", "photo.png", *f"--weights {random_vgg} --steps 2 --octaves 1 --device cpu --layer relu2_2".split()]


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_result_lies_beside_the_photo_and_its_path_on_stdout(ready, capsys):
    assert main(ready) == 0
    out, err = capsys.readouterr()
    assert out == "photo-dream.png\n"
    assert "objective" in err and "Traceback" not in err
    assert pixels("photo-dream.png").shape == (40, 52, 3)
    assert not np.array_equal(pixels("photo-dream.png"), pixels("photo.png"))


def test_the_same_seed_writes_the_same_bytes(ready):
    assert main([*ready, "-o", "one.png"]) == main([*ready, "-o", "two.png"]) == main([*ready, "-o", "3.png"]) == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert main([*ready, "-o", "other.png", "--seed", "5"]) == 0
    assert Path("one.png").read_bytes() != Path("other.png").read_bytes()


def test_alpha_and_exif_come_along_scaled(ready):
    image = Image.new("RGBA", (40, 40), (90, 120, 150, 255))
    image.paste((90, 120, 150, 0), (0, 0, 20, 40))
    exif = Image.Exif()
    exif[0x010E] = "a lake"
    image.save("lake.png", exif=exif)
    ready[1] = "lake.png"
    assert main([*ready, "--size", "60", "-o", "out.png"]) == 0
    with Image.open("out.png") as result:
        assert result.size == (60, 60) and result.getexif()[0x010E] == "a lake"
        alpha = np.array(result.getchannel("A"))
    assert alpha[:, :25].max() == 0 and alpha[:, 35:].min() == 255


def test_a_format_that_is_only_read_becomes_a_png(ready, capsys):
    Image.new("RGB", (40, 40), "teal").save("still.gif")
    ready[1] = "still.gif"
    assert main(ready) == 0
    assert capsys.readouterr().out == "still-dream.png\n"


def test_noise_and_guide(ready, capsys):
    ready[1] = "noise"
    assert main([*ready, "--size", "48", "--guide", "guide.png"]) == 0
    assert capsys.readouterr().out == "noise-dream.png\n"
    assert pixels("noise-dream.png").shape == (48, 48, 3)


def test_kept_colours(ready):
    assert main([*ready, "--keep-colors", "--step-size", "0.05", "-o", "out.png"]) == 0
    before, after = (pixels(name).astype(int) for name in ("photo.png", "out.png"))
    assert not np.array_equal(before, after)
    assert np.array_equal(after[..., 0] - after[..., 1], before[..., 0] - before[..., 1])
    assert np.array_equal(after[..., 0] - after[..., 2], before[..., 0] - before[..., 2])


def test_a_class_of_a_classifier(ready, tmp_path):
    torch.manual_seed(0)
    torch.save(googlenet(weights=None, init_weights=False, aux_logits=False).state_dict(), tmp_path / "googlenet.pth")
    line = "dream photo.png --class tabby --network googlenet --weights googlenet.pth --octaves 1 --steps 1 -o out.png"
    assert main(line.split()) == 0
    assert pixels("out.png").shape == (40, 52, 3)


def test_a_zoom_becomes_a_video(ready, capsys):
    assert main([*ready, "--zoom", "3", "-o", "zoom.gif"]) == 0
    out, err = capsys.readouterr()
    assert out == "zoom.gif\n" and "frame 1/3" in err
    with Image.open("zoom.gif") as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == 3 and film.size == (52, 40)


def interrupted(after: int):
    """A loop that is interrupted by Ctrl-C in a later step."""

    def ascent(image, gradient, steps, step_size):
        nonlocal after
        for _ in range(steps):
            if after == 0:
                raise KeyboardInterrupt
            after -= 1
            image[..., :20] = 1.0
            yield {"total": 0.0}

    return ascent


def test_ctrl_c_writes_the_picture_so_far(ready, capsys, monkeypatch):
    monkeypatch.setattr("faststyle.optimize.deepdream.ascent", interrupted(1))
    assert main(ready) == 0
    out, err = capsys.readouterr()
    assert out == "photo-dream.png\n" and "stopped early: the picture shows 1 of 2 steps" in err
    assert pixels("photo-dream.png")[:, :20].min() == 255
    assert np.array_equal(pixels("photo-dream.png")[:, 20:], pixels("photo.png")[:, 20:])


def test_ctrl_c_before_the_first_step_leaves_nothing(ready, tmp_path, monkeypatch):
    monkeypatch.setattr("faststyle.optimize.deepdream.ascent", interrupted(0))
    before = sorted(tmp_path.iterdir())
    assert main(ready) == 130
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_keeps_the_frames_so_far(ready, capsys, monkeypatch):
    monkeypatch.setattr("faststyle.optimize.deepdream.ascent", interrupted(2 + 2 + 1))
    assert main([*ready, "--zoom", "9", "-o", "zoom.gif", "--size", "52"]) == 0
    out, err = capsys.readouterr()
    assert out == "zoom.gif\n" and "stopped early: the video holds 2 of 9 frames" in err
    with Image.open("zoom.gif") as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--layer", "relu4_9"], "vgg16 has no layer 'relu4_9': did you mean relu4_"),
        (["--layer", "relu2_2:128"], "relu2_2 has channels 0 to 127"),
        (["--layer", "relu2_2=-1"], "a weight must be above 0"),
        (["--octaves", "4"], "--octaves 4 would start below 32 pixels"),
        (["--size", "16"], "--size must be at least 32"),
        (["--guide", "text.jpg"], "text.jpg is no picture"),
        (["--guide", "missing.png"], "missing.png does not exist"),
        (["--class", "tabby"], "--class and --layer exclude each other"),
        (["--weights", "text.jpg"], "text.jpg is truncated or no weights file"),
        (["--output", "out.gif"], "cannot be written"),
        (["--zoom", "3", "--output", "out.png"], "no video is written"),
        (["--zoom", "0", "--output", "out.gif"], "--zoom must be at least 1"),
        (["--zoom", "3", "--output", "out.gif", "--keep-colors"], "--keep-colors and --zoom"),
    ],
)
def test_bad_input_takes_one_line_and_leaves_nothing(ready, tmp_path, capsys, changes, message):
    before = sorted(tmp_path.rglob("*"))
    assert main([*ready, *changes]) == 1
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert last.startswith("faststyle: error: ") and message in last and "Traceback" not in err
    assert out == "" and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("missing.png", "missing.png does not exist"),
        ("text.jpg", "text.jpg is no picture"),
        (".", "is a folder"),
        ("photo.png --class tabbi", "did you mean tabby"),
        ("photo.png --class tabby --guide guide.png", "--guide and --class exclude each other"),
    ],
)
def test_pictures_and_classes_that_are_not_there(ready, capsys, line, message):
    assert main(["dream", *line.split()]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize("line", [[], ["photo.png", "--quality", "0"], ["photo.png", "--network", "alexnet"]])
def test_wrong_usage(ready, line):
    assert main(["dream", *line]) == 2


def test_layers_are_listed(ready, capsys):
    assert main(["dream", "--list-layers"]) == 0
    assert capsys.readouterr().out.split() == list(LAYERS["vgg16"])
    assert main(["dream", "--list-layers", "--network", "resnet50"]) == 0
    assert "layer3.5" in capsys.readouterr().out.split()
