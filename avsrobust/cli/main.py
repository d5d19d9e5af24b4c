"""The `avsrobust` command: finds sub-commands, and turns errors into one line and an exit status.

Conventions
    stdout carries results only; progress and warnings go to stderr.
    Exit status: 0 done; 1 done, but with rows skipped or a check failed; 2 the user must change something; 70 a bug of ours
    (EX_SOFTWARE of sysexits.h); 130 interrupted.
    Nothing heavy is imported here: ``avsrobust --help`` must answer at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import click

from avsrobust import __version__, limits
from avsrobust.cli import ending, python_names, streams
from avsrobust.cli.progress import note
from avsrobust.errors import AvsRobustError, DataSetError, did_you_mean, is_out_of_memory, text_of

STATUS_INCOMPLETE = 1
STATUS_USER = 2
STATUS_INTERNAL = 70
STATUS_INTERRUPTED = 130
_MOST_FINDINGS = 20
_MOST_NAMES = 3
# Looks before a thread sleeps: some microseconds, as long as most gaps between the operations of a model.
_SPINS = "1000"

COMMANDS = {
    "build": "avsrobust.cli.build:build",
    "verify": "avsrobust.cli.verify:verify",
    "evaluate": "avsrobust.cli.evaluate:evaluate",
    "merge": "avsrobust.cli.merge:merge",
    "report": "avsrobust.cli.report:report",
    "compare": "avsrobust.cli.compare:compare",
    "masks": "avsrobust.cli.masks:masks",
    "export": "avsrobust.cli.export:export",
    "audit": "avsrobust.cli.audit:audit",
    "pretransform": "avsrobust.cli.pretransform:pretransform",
    "train": "avsrobust.cli.train:train",
    "toy": "avsrobust.cli.toy:toy",
    "demo": "avsrobust.cli.demo:demo",
    "adapters": "avsrobust.cli.adapters:adapters",
}


@dataclass
class Invocation:
    """One run of the command line: the values of its common options."""

    verbose: bool = False


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when a command is used."""

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
            command.params += _common_options()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it fetches from other machines is noted on stderr."""
        from avsrobust.remote import telling

        with telling(note):
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Like click's, with a suggestion for a misspelt command."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"no command '{args[0]}'{did_you_mean(args[0], COMMANDS)}; see 'avsrobust --help'")
        return super().resolve_command(ctx, args)


def _common_options() -> list[click.Parameter]:
    # Of the group and of every command, so that they may stand before or after its name.
    return [
        click.Option(
            ["--verbose"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_be_verbose,
            help="Show the traceback of an error.",
        ),
        click.Option(
            [limits.OPTION],
            metavar="FACTOR",
            expose_value=False,
            callback=_raise_limits,
            help="Accept files that declare sizes FACTOR times beyond the limits.",
        ),
    ]


def _be_verbose(context: click.Context, _option: click.Parameter, verbose: bool) -> None:
    invocation = context.find_root().obj
    if verbose and isinstance(invocation, Invocation):
        invocation.verbose = True


def _raise_limits(_context: click.Context, _option: click.Parameter, factor: str | None) -> None:
    if factor is not None:
        # In the environment, so that worker processes have it too.
        os.environ[limits.ENVIRONMENT] = str(limits.parse_factor(factor))
    # One that the user set there is checked before any file is met.
    limits.raised_by()


@click.group(cls=LazyGroup, params=_common_options(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="avsrobust")
def main() -> None:
    """Does your audio-visual segmentation model listen?

    \b
    avsrobust build --dataset s4 --seed 42
    avsrobust evaluate --adapter m2f_debias
    avsrobust report --format csv
    """


def let_threads_sleep() -> None:
    """Let threads of OpenMP, torch's above all, sleep soon, unless the user chose otherwise; call it before torch is imported.

    By default those of GNU's OpenMP spin for milliseconds after each operation, on the cores where clips are read and counted
    meanwhile. To sleep at once would cost a model on otherwise idle cores a third of its speed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def run() -> None:
    """Entry point of the installed command: run, then exit with the status that fits."""
    let_threads_sleep()
    try:
        streams.prepare()
        ending.prepare(STATUS_INTERRUPTED)
    except AvsRobustError as error:
        _explain(error, verbose=False)
        status = STATUS_USER
    else:
        status = invoke(sys.argv[1:])
    streams.end()
    ending.leave(status)


def invoke(arguments: list[str]) -> int:
    """Run the command line and return its exit status."""
    raised = os.environ.get(limits.ENVIRONMENT)
    try:
        return _invoke(arguments, Invocation())
    finally:
        if raised is None:
            os.environ.pop(limits.ENVIRONMENT, None)
        else:
            os.environ[limits.ENVIRONMENT] = raised


def _invoke(arguments: list[str], invocation: Invocation) -> int:
    replaced: list[str] = []
    try:
        try:
            outcome = main.main(args=arguments, prog_name="avsrobust", standalone_mode=False, obj=invocation)
        finally:
            replaced = python_names.put_back()
        streams.flush_results()
        return outcome if isinstance(outcome, int) else 0
    except AvsRobustError as error:
        _explain(error, verbose=invocation.verbose)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        _say(f"error: {_with_remedy(error)}")
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; the same command continues where this one stopped")
        return STATUS_INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our stdout (head, less) has gone: nothing more to say. click makes an exit of it.
        if isinstance(error, SystemExit) and not streams.results_are_lost():
            raise
        streams.abandon()
        return 0
    except OSError as error:
        _trace(error, verbose=invocation.verbose)
        _say(f"error: {_failed_file(error)}: {error.strerror or error}; check the path, its rights and the free space")
    except Exception as error:
        _trace(error, verbose=invocation.verbose)
        if is_out_of_memory(error):
            used_up = "memory, or the number of threads you may have," if "thread" in str(error) else "memory"
            _say(
                f"error: the {used_up} is used up ({type(error).__name__}); close other programs, or take fewer --workers, a "
                "smaller --batch-size, or less in one call"
            )
            return STATUS_USER
        if replaced:
            _say(
                f"error: {type(error).__name__}: {text_of(error)}; found {', '.join(replaced[:_MOST_NAMES])} replaced by code of "
                "an adapter or of a library that it imports; expected Python's own; let it put back what it replaces (--verbose "
                "shows where it failed)"
            )
            return STATUS_USER
        _say(
            f"internal error: {type(error).__name__}: {text_of(error)} "
            "(a bug of avsrobust; --verbose shows where; please report it)"
        )
        return STATUS_INTERNAL
    return STATUS_USER


def _with_remedy(error: click.ClickException) -> str:
    message = error.format_message()
    if not isinstance(error, click.UsageError) or error.ctx is None or "--help" in message:
        return message
    return f"{message.removesuffix('.')}; see '{error.ctx.command_path} --help'"


def _failed_file(error: OSError) -> str:
    if error.filename is not None:
        return str(error.filename)
    return "standard output" if streams.results_are_lost() else "a file"


def _explain(error: AvsRobustError, *, verbose: bool) -> None:
    _trace(error, verbose=verbose)
    if isinstance(error, DataSetError):
        for finding in error.findings[:_MOST_FINDINGS]:
            _say(f"  {finding}")
        if len(error.findings) > _MOST_FINDINGS:
            _say(f"  ... and {len(error.findings) - _MOST_FINDINGS} more")
    _say(f"error: {error}")


def _trace(error: BaseException, *, verbose: bool) -> None:
    if verbose:
        for line in "".join(traceback.format_exception(error)).splitlines():
            note(line)


def _say(line: str) -> None:
    # Indented where it is indented, and otherwise with one blank wherever there are several.
    indent = line[: len(line) - len(line.lstrip(" "))]
    note(indent + " ".join(line.split()))
