"""The `avsrobust` command: finds sub-commands, and turns errors into one line and an exit status.

Conventions
    stdout carries results only; progress and warnings go to stderr.
    Exit status: 0 done; 1 done, but with rows skipped or a check failed; 2 the user must change something.
    Nothing heavy is imported here: ``avsrobust --help`` must answer at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from avsrobust import __version__
from avsrobust.errors import AvsRobustError, DataSetError, did_you_mean

STATUS_INCOMPLETE = 1
STATUS_USER = 2
STATUS_INTERRUPTED = 130
_MOST_FINDINGS = 20

COMMANDS = {
    "build": "avsrobust.cli.build:build",
    "verify": "avsrobust.cli.verify:verify",
    "evaluate": "avsrobust.cli.evaluate:evaluate",
    "report": "avsrobust.cli.report:report",
    "compare": "avsrobust.cli.compare:compare",
    "audit": "avsrobust.cli.audit:audit",
    "pretransform": "avsrobust.cli.pretransform:pretransform",
    "train": "avsrobust.cli.train:train",
    "toy": "avsrobust.cli.toy:toy",
    "demo": "avsrobust.cli.demo:demo",
    "adapters": "avsrobust.cli.adapters:adapters",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if all(parameter.name != "verbose" for parameter in command.params):
            command.params.append(_verbose_option())
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Like click's, with a suggestion for a misspelt command."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"no command '{args[0]}'{did_you_mean(args[0], COMMANDS)}; see 'avsrobust --help'")
        return super().resolve_command(ctx, args)


def _verbose_option() -> click.Option:
    # Parsed here so that it may stand before or after the command; `invoke` looks for it in the arguments.
    return click.Option(["--verbose"], is_flag=True, expose_value=False, help="Show the traceback of an error.")


@click.group(cls=LazyGroup, params=[_verbose_option()], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="avsrobust")
def main() -> None:
    """Does your audio-visual segmentation model listen?

    \b
    avsrobust build --dataset s4 --seed 42
    avsrobust evaluate --adapter m2f_debias
    avsrobust report --format csv
    """


def run() -> None:
    """Entry point of the installed command: run, then exit with the status that fits."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run the command line and return its exit status."""
    verbose = "--verbose" in arguments
    try:
        outcome = main.main(args=arguments, prog_name="avsrobust", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except AvsRobustError as error:
        _explain(error, verbose)
        return STATUS_USER
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return STATUS_USER
    except click.ClickException as error:
        _say(f"error: {' '.join(error.format_message().split())}")
        return STATUS_USER
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; the same command continues where this one stopped")
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout (head, less) has gone: nothing more to say, and the interpreter's flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if verbose:
            traceback.print_exc()
        _say(
            f"error: {error.filename or 'a file'}: {error.strerror or error}; check the path, its rights and the free space"
        )
        return STATUS_USER
    except Exception as error:
        if verbose:
            traceback.print_exc()
        _say(
            f"internal error: {type(error).__name__}: {error} (a bug of avsrobust; --verbose shows where; please report it)"
        )
        return STATUS_USER


def _explain(error: AvsRobustError, verbose: bool) -> None:
    if verbose:
        traceback.print_exception(error)
    if isinstance(error, DataSetError):
        for finding in error.findings[:_MOST_FINDINGS]:
            _say(f"  {finding}")
        if len(error.findings) > _MOST_FINDINGS:
            _say(f"  ... and {len(error.findings) - _MOST_FINDINGS} more")
    _say(f"error: {' '.join(str(error).split())}")


def _say(line: str) -> None:
    click.echo(line, err=True)
