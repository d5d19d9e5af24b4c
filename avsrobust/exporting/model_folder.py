"""A model as a folder in the layout of Hugging Face, with a card that holds what was measured.

Conventions
    An adapter takes part by a method ``save_pretrained(folder)``, which writes ``config.json``, the weights and, where there is
    one, a card ``README.md``; its `load` reads the folder as a checkpoint. The folder appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from avsrobust.adapters.lookup import load_adapter
from avsrobust.defaults import model_name
from avsrobust.errors import AdapterError, OptionError
from avsrobust.exporting.model_cards import with_results
from avsrobust.exporting.runs import result_runs
from avsrobust.files import read_regular, sha256_of_file, write_text
from avsrobust.folders import new_folder
from avsrobust.limits import TEXT_BYTES
from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.plugins import one_line
from avsrobust.reporting.loading import load_runs
from avsrobust.results import Scores

CARD_NAME = "README.md"


def export_model(
    adapter: str,
    output: Path | str,
    *,
    checkpoint: Path | str | None = None,
    options: Mapping[str, str] | None = None,
    name: str | None = None,
    results: Sequence[Scores] = (),
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
) -> Path:
    """Write an adapter's model to a folder in the layout of Hugging Face.

    Args:
        adapter: The adapter, as in `evaluate`.
        output: A new folder.
        checkpoint: Its weights; None: its own.
        options: Its options.
        name: Name of the model on the card; None: the adapter's.
        results: Its results, for the card; none: the card of the weights stays as it is.
        protocols: Protocols of the scores on the card.

    Returns:
        The folder.

    Raises:
        AdapterError: The adapter cannot be loaded or has no `save_pretrained`.
        OptionError: The folder is there already, or the card's head is none.
        ResultsError: The results cannot be shown.
    """
    folder = Path(output)
    loaded = load_adapter(adapter, checkpoint=checkpoint, device=torch.device("cpu"), options=dict(options or {}))
    save = getattr(loaded, "save_pretrained", None)
    if not callable(save):
        raise AdapterError(
            f"--adapter {adapter}: has no method save_pretrained(folder), which writes its configuration and weights; "
            "expected an adapter that has one, such as m2f"
        )
    _check_results(results, checkpoint)
    runs, _ = result_runs(results, protocols) if results else ([], [])
    with new_folder(folder) as temporary:
        with one_line(f"--adapter {adapter}: save_pretrained", AdapterError):
            save(temporary)
        card = temporary / CARD_NAME
        text = read_regular(card, TEXT_BYTES, OptionError).decode("utf-8", "replace") if card.is_file() else ""
        if runs or not text:
            write_text(card, with_results(text, name or model_name(adapter), runs))
    return folder


def _check_results(results: Sequence[Scores], checkpoint: Path | str | None) -> None:
    """Raise `OptionError` for results of other weights."""
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.is_dir():
        # The checksum of a folder covers more than the weights.
        return
    expected = None if path is None else sha256_of_file(path)
    for scores, run in zip(results, load_runs(results)[0], strict=True):
        entry = None if run is None else run.details.get("checkpoint")
        found = entry.get("sha256") if isinstance(entry, Mapping) else None
        if run is not None and found != expected:
            raise OptionError(
                f"--results {scores.source}: is of {_title(found)}; expected those of {_title(expected)}; evaluate these "
                "weights, or name the checkpoint that was evaluated"
            )


def _title(sha256: object) -> str:
    return "the adapter's own weights" if sha256 is None else f"a checkpoint with SHA-256 {str(sha256)[:12]}.."
