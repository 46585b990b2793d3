"""`--config FILE`: a TOML file stands for flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import tyro

from faststyle.cli import main
from faststyle.cli.settings import expand_config
from faststyle.cli.train import Options
from faststyle.errors import ConfigError

PRESETS = sorted((Path(__file__).parents[2] / "presets").glob("*.toml"))
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_settings_become_flags_after_those_given(tmp_path):
    path = write(tmp_path / "a.toml", 'max_steps = 7\ncrops = ["64x2:0.5", "128x1:1"]\nresume = true\nname = "x"\n')
    given = ["p.jpg", "--config", path, "--name", "y"]
    assert expand_config(given) == [
        *given,
        *("--max-steps", "7", "--crops", "64x2:0.5", "128x1:1", "--resume"),
    ]
    assert expand_config(["p.jpg"]) == ["p.jpg"]


def test_the_command_line_wins(tmp_path):
    path = write(tmp_path / "a.toml", "strength = 0.2\nmax-steps = 7")
    arguments = expand_config(["p.jpg", "--data", "d", f"--config={path}", "--strength", "0.9"])
    options = tyro.cli(Options, args=arguments, config=CONFIG)
    assert (options.loss.strength, options.optim.max_steps, options.style) == (0.9, 7, ("p.jpg",))


def test_a_list_does_not_swallow_the_painting(tmp_path):
    path = write(tmp_path / "a.toml", 'crops = ["64x2:1"]\ntitle = ["One", "Two"]\nname = "both"')
    given = ["p.jpg", "q.jpg", "--data", "d", "--config", path]
    options = tyro.cli(Options, args=expand_config(given), config=CONFIG)
    assert (options.style, options.optim.crops) == (("p.jpg", "q.jpg"), ("64x2:1",))
    assert options.title == ("One", "Two")


@pytest.mark.parametrize(
    ("text", "message"),
    [("max-steps", "is no TOML"), ("[optim]\nmax_steps = 3", "is a table"), (None, "cannot be read")],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, message):
    path = str(tmp_path / "a.toml") if text is None else write(tmp_path / "a.toml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        expand_config(["--config", path])
    assert "\n" not in str(caught.value)


def test_two_files_are_one_too_many(tmp_path):
    path = write(tmp_path / "a.toml", "max-steps = 3")
    with pytest.raises(ConfigError, match="--config is given twice"):
        expand_config(["--config", path, f"--config={path}"])


def test_a_misspelt_key_is_answered_with_the_flag(tmp_path, capsys):
    path = write(tmp_path / "a.toml", "strenght = 0.4")
    assert main(["train", "p.jpg", "--data", "d", f"--config={path}"]) == 2
    assert "--strength" in capsys.readouterr().err


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_shipped_preset_is_valid(path):
    options = tyro.cli(Options, args=expand_config(["p.jpg", "--data", "d", "--config", str(path)]), config=CONFIG)
    assert options.optim.stages


def test_there_are_presets():
    assert PRESETS
