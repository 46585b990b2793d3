"""The `faststyle` command: a table of commands, each in a module of its own that is imported when asked for.

A command's module holds `Options`, a frozen dataclass that is its flags and help, and `run(options) -> int`, which
returns the exit code. What goes wrong becomes one line here: 1 for our errors, 2 for wrong usage, 130 for Ctrl-C.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

import faststyle
from faststyle.cli.console import notes_on_stderr, report
from faststyle.cli.settings import expand_config
from faststyle.errors import FaststyleError

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "stylize": ("faststyle.cli.stylize", "Repaint photos with a model."),
    "sheet": ("faststyle.cli.sheet", "Repaint a photo in every style there is, on one sheet."),
    "train": ("faststyle.cli.train", "Learn a painting from a folder of photos."),
    "dream": ("faststyle.cli.dream", "Let a network's layers see things in a photo: DeepDream."),
    "gatys": ("faststyle.cli.gatys", "Paint one photo by optimising its pixels: minutes a picture, no training."),
    "export": ("faststyle.cli.export", "Write the ONNX model of a weights file again."),
    "evaluate": ("faststyle.cli.evaluate", "Measure a model: losses, LPIPS, and the optimiser steps that it equals."),
    "info": ("faststyle.cli.info", "Show what a model says about itself."),
    "models": ("faststyle.cli.models", "List the models found in checkpoints."),
    "weights": ("faststyle.cli.weights", "Show, fetch and check the loss network's weights."),
}
"""Name of a command: its module, and what it does in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; `argv` is the command line without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be text, and on Windows not of the code page that a redirected output has.
        sys.stdout.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    with notes_on_stderr(), warnings.catch_warnings():
        # Pillow warns of oddities in a photo's metadata, which nobody at a terminal can act on.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            code = _dispatch(arguments)
            sys.stdout.flush()
            return code
        except SystemExit as exit:  # tyro's way out, for --help and for wrong usage
            return exit.code if isinstance(exit.code, int) else 2
        except FaststyleError as error:
            report(str(error))
            return 1
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            # Whoever read our output has gone; Python would complain when it closes standard output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            report(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
            return 1


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else None
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command == "--version":
        print(f"faststyle {faststyle.__version__}")
        return 0
    if command is None:
        print(_help(), file=sys.stderr)
        return 2
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        report(f"there is no command {command}: " + (f"did you mean {near[0]}?" if near else "see faststyle --help"))
        return 2
    import tyro

    module = importlib.import_module(COMMANDS[command][0])
    rest = arguments[1:]
    if "config" in module.Options.__dataclass_fields__:
        rest = expand_config(rest)
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)
    options = tyro.cli(module.Options, prog=f"faststyle {command}", args=rest, config=config)
    code: int = module.run(options)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: faststyle COMMAND [OPTIONS]",
            "",
            "A painting becomes a small network that repaints any photo.",
            "",
            "commands:",
            *(f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items()),
            "",
            "faststyle COMMAND --help shows the options of a command, faststyle --version the version.",
        ]
    )
