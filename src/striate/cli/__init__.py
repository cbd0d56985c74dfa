"""The command line: one module a verb, imported when it is called (`striate --help` needs no torch)."""

from __future__ import annotations

import os
import sys

# verb -> (function to import, one line of help); "data" and "bench" are apps with verbs of their own
COMMANDS = {
    "train": ("striate.cli.train:train", "Train a network on your pictures."),
    "evaluate": ("striate.cli.evaluate:evaluate", "Judge a trained model on labelled pictures."),
    "robustness": ("striate.cli.robustness:robustness", "Judge a model on pictures made harder by degrees."),
    "predict": ("striate.cli.predict:predict", "Say what is on pictures."),
    "explain": ("striate.cli.explain:explain", "Show why a model says what it says, and what is inside."),
    "stylize": ("striate.cli.stylize:app", "Paint a picture in the style of another."),
    "lectures": ("striate.cli.lectures:lectures", "Run the lectures' ideas, each checked and drawn."),
    "data": ("striate.cli.data:app", "Check, show and convert a data set."),
    "lr-find": ("striate.cli.lr_find:lr_find", "Find a learning rate: a picture and a suggestion."),
    "convert": ("striate.cli.convert:convert", "Turn anybody's weights into a model file."),
    "models": ("striate.cli.models:models", "List the networks, or search them."),
    "summary": ("striate.cli.summary:summary", "Print a network's layers, shapes, parameters and costs."),
    "bench": ("striate.cli.bench:app", "Measure what networks cost, side by side."),
    "doctor": ("striate.cli.doctor:doctor", "Say what this machine can do."),
}


def main(argv: list[str] | None = None) -> None:
    """Run the command line; never returns. Errors of the user are one line on stderr and their exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(version("striate"))
        sys.exit(0)
    from striate.errors import INTERRUPTED, StriateError, UsageError, did_you_mean

    try:
        if arguments[:1] == ["stylize"] and any(word.split("=")[0] == "--train" for word in arguments):
            raise UsageError("--train is a verb of its own now: striate stylize train STYLE --content PHOTOS")
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise UsageError(
                f'"{arguments[0]}" is not a command.{did_you_mean(arguments[0], COMMANDS)} See: striate --help'
            )
        code = run([in_new_words(word) for word in arguments])
    except StriateError as error:
        print(f"striate: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("striate: interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away (`striate … | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


FORMER_OPTIONS = {"--augment.mirror": "--augment.hflip", "--augment.colour": "--augment.color-jitter"}


def in_new_words(argument: str) -> str:
    """Options have the field's words; the former ones are understood for one version."""
    name, equals, value = argument.partition("=")
    return FORMER_OPTIONS.get(name, name) + equals + value


def run(arguments: list[str]) -> int:
    """Parse and run one command line; returns the exit code of a command that ended well."""
    from cyclopts import App, CycloptsError

    from striate.errors import UsageError

    app = App(
        name="striate",
        help="CNNs, from pixels to product: train, judge and use convolutional networks on your own pictures.",
        version_flags=["--version"],
        result_action="return_value",
        help_format="plaintext",
        exit_on_error=False,
        print_error=False,
    )
    for verb, (target, help_line) in COMMANDS.items():
        app.command(target, name=verb, help=help_line)
    try:
        result = app(arguments)
    except CycloptsError as error:
        raise UsageError(refused(error)) from None
    return result if isinstance(result, int) else 0


def refused(error: Exception) -> str:
    """What the parser has against the command line, in one line."""
    from pydantic import ValidationError

    from striate.config import explain

    if isinstance(error.__cause__, ValidationError):
        name, _, wrong = explain(error.__cause__).partition(":")
        return f"--{name.replace('_', '-')}:{wrong}"
    return " ".join(str(error).split())
