"""The catalogue of adapters: every name for ``--adapter`` with a description and its needs, without importing a model or torch.

Conventions
    Built-in adapters are lazy ``module:object`` strings. Other packages register names in the entry-point group
    `ENTRY_POINT_GROUP`; a registered name replaces a built-in one.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from avsrobust.errors import AdapterError
from avsrobust.plugins import distribution_of, registered_in

ENTRY_POINT_GROUP = "avsrobust.adapters"


@dataclass(frozen=True)
class AdapterEntry:
    """One name for ``--adapter``.

    Attributes:
        name: The name.
        target: Definition of the adapter's class, ``module:object``.
        source: Package that registers the name.
        description: One line for people.
        needs: Options that must be given on the command line.
        packages: Modules that it imports and that avsrobust does not depend on.
        install: Command that installs them.
        more: Documents to read, relative to the repository.
    """

    name: str
    target: str
    source: str
    description: str
    needs: str = ""
    packages: tuple[str, ...] = ()
    install: str = ""
    more: str = ""


_M2F_PACKAGES = ("transformers",)
_M2F_INSTALL = "pip install 'avsrobust[m2f]'"
_PUBLISHED = "docs/published_models.md"

BUILT_IN = (
    AdapterEntry(
        "m2f",
        "model_adapters.m2f.adapter:M2F",
        "avsrobust",
        "Mask2Former prompted by audio, plain; small weights trained on the toy come with it",
        packages=_M2F_PACKAGES,
        install=_M2F_INSTALL,
    ),
    AdapterEntry(
        "m2f_debias",
        "model_adapters.m2f.adapter:M2FDebias",
        "avsrobust",
        "Mask2Former, debiased (contrast with a biased branch, active queries); toy weights too; reads bias_in_AVS checkpoints",
        packages=_M2F_PACKAGES,
        install=_M2F_INSTALL,
    ),
    AdapterEntry(
        "m2f_robust",
        "model_adapters.m2f.adapter:M2FRobust",
        "avsrobust",
        "Mask2Former trained with negative audio and the similarity of audio and picture; toy weights too",
        packages=_M2F_PACKAGES,
        install=_M2F_INSTALL,
    ),
    AdapterEntry(
        "oracle",
        "avsrobust.adapters.baselines:Oracle",
        "avsrobust",
        "baseline: segments exactly the sounding objects; every strict G score is 1",
    ),
    AdapterEntry(
        "visual_prior",
        "avsrobust.adapters.baselines:VisualPrior",
        "avsrobust",
        "baseline: segments the objects whatever the audio; a perfect visual-only model",
    ),
    AdapterEntry(
        "empty",
        "avsrobust.adapters.baselines:Empty",
        "avsrobust",
        "baseline: never segments anything; shows each protocol's trivial scores",
    ),
    AdapterEntry(
        "presence",
        "avsrobust.adapters.baselines:Presence",
        "avsrobust",
        "baseline: segments all annotated objects whenever anything is audible; right under silence alone",
    ),
    AdapterEntry(
        "match_gate",
        "avsrobust.adapters.baselines:MatchGate",
        "avsrobust",
        "baseline: segments all annotated objects whenever the audio belongs to any part of the picture; IIoU 0",
    ),
    AdapterEntry(
        "predictions",
        "avsrobust.adapters.predictions:Predictions",
        "avsrobust",
        "masks that any other program wrote: PNG, NPY, NPZ, or run lengths in JSON or parquet (--save-masks)",
        "--option masks=DIR, masks=FILE.parquet or masks=FILE.json",
    ),
    AdapterEntry(
        "worker",
        "avsrobust.adapters.worker:Worker",
        "avsrobust",
        "a model in another environment, another Python or a container, behind a pipe",
        "--option command='...' that starts it",
        more="examples/README.md; COMBO-AVS: docs/worker_combo.md; AVSegFormer in its authors' environment: "
        "docs/published_models.md",
    ),
    AdapterEntry(
        "avsegformer",
        "model_adapters.avsegformer:AVSegFormer",
        "avsrobust",
        "AVSegFormer (vvvb-github/AVSegFormer), S4, MS3 and AVSS, from your own checkout",
        "--option repo=PATH, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "avsegformer_robust",
        "model_adapters.avsegformer:AVSegFormerRobust",
        "avsrobust",
        "AVSegFormer_robust (jiali-home/AVSBench-Robust), from your own checkout; keeps its similarity of audio and picture",
        "--option repo=PATH, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "tpavi",
        "model_adapters.tpavi:Tpavi",
        "avsrobust",
        "TPAVI (OpenNLPLab/AVSBench), S4, MS3 and AVSS, from your own checkout",
        "--option repo=PATH, --checkpoint FILE, --option vggish=FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "gavs",
        "model_adapters.gavs:Gavs",
        "avsrobust",
        "GAVS (GeWu-Lab/Generalizable-Audio-Visual-Segmentation), SAM prompted by audio, from your own checkout",
        "--option repo=PATH, --option embedder=FILE, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "sama",
        "model_adapters.sama:Sama",
        "avsrobust",
        "SAMA-AVS (jinxiang-liu/anno-free-AVS), SAM with audio in every block, from your own checkout",
        "--option repo=PATH, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "ddeseg",
        "model_adapters.ddeseg:DDESeg",
        "avsrobust",
        "DDESeg (YenanLiu/DDESeg), with its audio memory bank, S4, MS3 and AVSS, from your own checkout",
        "--option repo=PATH, --option bank=FILE, --checkpoint FILE",
        packages=("torchlibrosa",),
        install="pip install torchlibrosa",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "cavp",
        "model_adapters.cavp:Cavp",
        "avsrobust",
        "CAVP (cyh-0/CAVP), S4, MS3 and AVSS, from your own checkout",
        "--option repo=PATH, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "stepping_stones",
        "model_adapters.stepping_stones:SteppingStones",
        "avsrobust",
        "Stepping-Stones (GeWu-Lab/Stepping-Stones), S4, MS3 and AVSS, from your own checkout in an environment of its own",
        "--option repo=PATH, --option python=PATH, --checkpoint FILE, --option vggish=FILE; AVSS: --option masks=FILE",
        more=_PUBLISHED,
    ),
)


def known_adapters() -> list[AdapterEntry]:
    """Return every name: those of entry points first, then the built-in ones that none of them replaces.

    Raises:
        AdapterError: Two packages register one name.
    """
    registered = [
        AdapterEntry(name, point.value, distribution_of(point), f"{point.value} ({distribution_of(point)})")
        for name, point in sorted(registered_in(ENTRY_POINT_GROUP, "adapter", AdapterError).items())
    ]
    taken = {entry.name for entry in registered}
    return [*registered, *(entry for entry in BUILT_IN if entry.name not in taken)]


def obstacle(entry: AdapterEntry) -> str:
    """Return the reason why an adapter cannot run in this environment, "" where none is known; imports nothing."""
    wanted = entry.packages or (entry.target.partition(":")[0].partition(".")[0],)
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not installed" + (f"; {entry.install}" if entry.install else "")
