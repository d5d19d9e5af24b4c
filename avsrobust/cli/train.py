"""`avsrobust train`: train a model by a recipe, or go on where the same command was stopped."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from avsrobust.cli.options import ANYWHERE, HERE, complete_recipe, data_root_option, wait_option
from avsrobust.cli.progress import Reporter, note, print_result, progress_bar
from avsrobust.defaults import BUILDS_ROOT
from avsrobust.errors import OptionError
from avsrobust.optional_packages import import_obstacle
from avsrobust.vocabulary import counted

_INSTALL = "'avsrobust[train]'"


@click.command(short_help="Train a model, or go on where it was stopped.")
@click.option(
    "--recipe",
    required=True,
    shell_complete=complete_recipe("train"),
    metavar="NAME|FILE",
    help="The model, the data and the schedule of the training.",
)
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    type=ANYWHERE,
    metavar="FILE|URL",
    help="Manifest or build folder, here or at s3://.., one per data set of the recipe [default: those under 'robust', or the "
    "recipe's toy].",
)
@data_root_option
@click.option(
    "--output",
    type=ANYWHERE,
    metavar="DIR|URL",
    help="The run's folder, here or at s3://.. [default: training/NAME].",
)
@click.option(
    "--init",
    type=ANYWHERE,
    metavar="FOLDER|FILE|URL",
    help="Start: a run's folder, a bundle, or a public Mask2Former checkpoint folder.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where it trains.")
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the recipe's number of steps.")
@click.option(
    "--checkpoint-every", type=click.IntRange(min=1), metavar="STEPS", help="Instead of the recipe's interval."
)
@click.option("--workers", default=0, show_default=True, type=click.IntRange(min=0), help="Processes that read data.")
@click.option("--vggish", type=HERE, metavar="FILE", help="VGGish's weights, for models that need them.")
@click.option(
    "--cache",
    type=HERE,
    metavar="DIR",
    help="Folder of resized pictures, shared by runs; it may be deleted [default: training/.pictures; in --output's folder].",
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the model with torch.compile; kept between runs.")
@click.option(
    "--cuda-graph", is_flag=True, help="Launch each step's passes as one CUDA graph: for small models on a GPU."
)
@click.option(
    "--smoke", is_flag=True, help="Two steps and one validation clip per data set: do data, weights and memory fit?"
)
@click.option(
    "--full-batch",
    is_flag=True,
    help="With --smoke on a CPU: the recipe's batch and precision, not one sample of each data set in float32.",
)
@wait_option
def train(
    recipe: str,
    manifests: tuple[Path | str, ...],
    data_root: Path | str | None,
    output: Path | str | None,
    init: Path | str | None,
    device: str,
    steps: int | None,
    checkpoint_every: int | None,
    workers: int,
    vggish: Path | None,
    cache: Path | None,
    compiled: bool,
    cuda_graph: bool,
    smoke: bool,
    full_batch: bool,
    wait: bool,
) -> int:
    """Train a model; the same command goes on where it was stopped.

    \b
    On several GPUs: accelerate launch --num_processes 4 -m avsrobust train --recipe NAME
    """
    from avsrobust.processes import usable_cores
    from avsrobust.remote import is_remote, output_folder, published, put_so_far
    from avsrobust.toy.build import toy_build
    from avsrobust.training.inputs import PICTURES_ROOT, find_start, lacks_start, open_builds
    from avsrobust.training.recipe import default_output, load_train_recipe

    chosen = load_train_recipe(recipe).with_steps(steps)
    try:
        from avsrobust.training.checkpoints import TRAINING_KIND
        from avsrobust.training.devices import check_device, trains_on_cpu
        from avsrobust.training.engine import TrainOptions
        from avsrobust.training.engine import train as run_training
        from avsrobust.training.lineage import LINEAGE
    except ImportError as error:
        package = (error.name or "").partition(".")[0] or "a package"
        raise OptionError(f"train: {import_obstacle(error, package, _INSTALL)}") from error

    check_device(device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if is_remote(output) and processes > 1:
        raise OptionError(
            f"--output {output}: found {processes} processes; expected one, or a folder of this machine or a "
            "shared one; copy the run there when it is done"
        )
    if full_batch and not smoke:
        raise OptionError("--full-batch: goes with --smoke, and only with it; a run has its recipe's batch anyway")
    if vggish is not None and not vggish.is_file():
        raise OptionError(f"--vggish {vggish}: found no such file; expected VGGish's weights (.pth or .safetensors)")
    # The recipes of a chain can be tried before the first has been trained, which takes days.
    untrained = smoke and init is None and lacks_start(chosen)
    start = None if untrained else find_start(chosen, init)
    on_message = note if is_main_process() else lambda _line: None
    with ExitStack() as stack:
        toys = Path("data")
        is_smaller = False
        if smoke:
            # A trial leaves nothing.
            whole, trial = chosen, Path(stack.enter_context(TemporaryDirectory()))
            chosen = chosen.for_smoke(steps, on_cpu=not full_batch and trains_on_cpu(device), processes=processes)
            is_smaller = (chosen.run.batch_size, chosen.run.precision) != (whole.run.batch_size, whole.run.precision)
            if is_smaller:
                on_message(
                    f"on a CPU a smoke run has steps of {counted(chosen.run.batch_size, 'sample')} in float32; the recipe's, of "
                    f"{whole.run.batch_size} in {whole.run.precision}, are tried with --full-batch or on a GPU"
                )
            toys, output, cache = trial / "data", output or trial / "run", trial / "pictures"
        bar = stack.enter_context(_bar(f"train {chosen.name}"))
        make_toy = partial(toy_build, progress=bar, workers=1 if smoke else usable_cores(), root=toys)
        open_data = partial(
            open_builds, chosen, manifests, data_root, BUILDS_ROOT, make_toy=make_toy, on_message=on_message
        )
        # A toy takes minutes: whatever else may be wrong is told before.
        makes_toy = chosen.data.toy is not None and not manifests
        builds = open_data if makes_toy else open_data()
        place = default_output(chosen) if output is None else output
        options = TrainOptions(
            output=stack.enter_context(
                output_folder(place, "avsrobust train", TRAINING_KIND, wait=wait, lineage=LINEAGE)
            ),
            start=start,
            device=device,
            workers=workers,
            checkpoint_every=checkpoint_every,
            vggish=vggish,
            wait=wait,
            pictures=PICTURES_ROOT if cache is None and (output is None or is_remote(output)) else cache,
            compiled=compiled,
            cuda_graph=cuda_graph,
        )
        report = run_training(
            chosen,
            builds,
            options,
            where=recipe,
            progress=bar,
            on_message=on_message,
            on_saved=partial(put_so_far, options.output),
            on_stage=None if bar is None else bar.stage,
        )
    if is_main_process() and smoke:
        fits = _what_fits(whole_batch=not is_smaller, lacked=chosen.model.start_from if untrained else None)
        note(f"smoke run of {chosen.name}: {counted(report.steps, 'step')} and a validation done; {fits}")
    elif is_main_process():
        best = "none" if report.best_score is None else f"{report.best_score:.4f} at step {report.best_step}"
        note(f"{counted(report.steps, 'step')} done; best strict G-mIoU on validation clips: {best}")
        print_result(published(report.best))
    return 0


def _bar(title: str) -> AbstractContextManager[Reporter | None]:
    return progress_bar(title) if is_main_process() else nullcontext()


def _what_fits(*, whole_batch: bool, lacked: str | None) -> str:
    """Return what a smoke run has shown; `lacked` is the run whose weights were not there."""
    tried = ["data", *([] if lacked else ["weights"]), *(["memory"] if whole_batch else [])]
    fits = f"{', '.join(tried[:-1])} and {tried[-1]} fit" if len(tried) > 1 else f"{tried[0]} fits"
    if not whole_batch:
        fits += "; memory was not tried with the recipe's batch"
    if lacked:
        fits += f"; it ran on random weights, as the run that it starts from, '{lacked}', is not there yet"
    return fits


def is_main_process() -> bool:
    """Return whether this is the main process of those that accelerate has started: the one that prints."""
    return os.environ.get("RANK", "0") == "0"
