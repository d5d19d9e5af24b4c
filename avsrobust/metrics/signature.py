"""The signature of a score: all that its number depends on besides the model and the data, in one string.

Conventions
    ``key:value`` pairs joined by ";", always the same keys in the same order for one task. Two numbers compare only where their
    signatures agree. The idea is that of sacrebleu's signatures (Post, 2018, arXiv 1804.08771).
"""

from __future__ import annotations

from collections.abc import Sequence

from avsrobust import __version__
from avsrobust.metrics.binary.protocols import Protocol
from avsrobust.metrics.semantic.protocols import SemanticProtocol
from avsrobust.vocabulary import BINARY, NEGATIVES, SEMANTIC


def signature(protocol: Protocol | SemanticProtocol, negatives: Sequence[str] = NEGATIVES, score_size: str = "") -> str:
    """Return the signature of the scores under a protocol.

    Args:
        protocol: The protocol.
        negatives: The negative conditions that G averages over.
        score_size: Size of the scored masks, such as "224:nearest"; empty, and no part of the signature: that of the mask files.

    >>> from avsrobust.metrics import PROTOCOLS
    >>> signature(PROTOCOLS["strict"], ["silence"]).rpartition(";")[0]
    'protocol:strict;task:binary;threshold:0.5;beta2:0.3;sweep:none;empty:skipped;average:clips;batch:1;negatives:silence'
    """
    parts = _binary(protocol) if isinstance(protocol, Protocol) else _semantic(protocol)
    size = {"size": score_size.replace(":", "/")} if score_size else {}
    pairs = {"protocol": protocol.name, **parts, "negatives": "+".join(negatives), **size, "version": __version__}
    return ";".join(f"{key}:{value}" for key, value in pairs.items())


def _binary(protocol: Protocol) -> dict[str, str]:
    """The constants of a binary protocol. `batch` is that of clean audio, and behind a plus that of the negatives."""
    batches = dict.fromkeys(protocol.batch_under(negative=negative) for negative in (False, True))
    return {
        "task": BINARY,
        "threshold": f"{protocol.threshold:.6g}",
        "beta2": f"{protocol.beta2:g}",
        "sweep": "255" if protocol.f_at == "best_of_255" else "none",
        "empty": protocol.empty_targets,
        "average": protocol.average,
        "batch": "+".join(map(str, batches)),
    }


def _semantic(protocol: SemanticProtocol) -> dict[str, str]:
    """The constants of a semantic protocol. Sums per class do not depend on batches."""
    return {
        "task": SEMANTIC,
        "threshold": "argmax",
        "beta2": f"{protocol.beta2:g}",
        "sweep": "none",
        "classes": protocol.classes,
        "background": str(protocol.background),
        "headline": protocol.headline.replace(" ", "_"),
        "average": protocol.average,
        "padded": "none" if protocol.padded_to is None else str(protocol.padded_to),
        "batch": "any",
    }
