"""Published models that avsrobust runs: what each is, whose code it is, how it was tried, and what is odd in it.

Conventions
    The table in ``docs/published_models.md`` has the rows of `PUBLISHED`, word for word (`table_row`); ``avsrobust adapters``
    prints the same below the adapter's name. Quirks are of the released code at the commit named in `tried`.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLE_HEAD = (
    "| adapter | model, paper | repository, licence | what runs | tried | options | quirks of the released code |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


@dataclass(frozen=True)
class PublishedModel:
    """One published model. Texts are Markdown of one line, without "|".

    Attributes:
        adapter: Name for ``--adapter`` that runs it.
        model: The model's name.
        paper: Authors, venue and year.
        repository: Address below github.com.
        licence: Licence of the repository; "none stated" where it has no such file.
        runs: Data sets and variants that avsrobust runs.
        tried: Commit of the repository, and what was compared with what.
        options: The adapter's options, or the document that lists them.
        quirks: Behaviour of the released code that changes numbers, and what the adapter does about it.
    """

    adapter: str
    model: str
    paper: str
    repository: str
    licence: str
    runs: str
    tried: str
    options: str
    quirks: str


PUBLISHED = (
    PublishedModel(
        adapter="avsegformer",
        model="AVSegFormer",
        paper="Gao et al., AAAI 2024",
        repository="vvvb-github/AVSegFormer",
        licence="none stated",
        runs="S4, MS3, AVSS; any backbone",
        tried="7083cb6, own forward pass, random weights: within 1e-5",
        options="`repo`, `task`, `config`, `image_size`",
        quirks="tests S4 and MS3 at 512 pixels, AVSS at 224",
    ),
    PublishedModel(
        adapter="avsegformer_robust",
        model="AVSegFormer_robust",
        paper="Li et al., 2025",
        repository="jiali-home/AVSBench-Robust",
        licence="none stated",
        runs="S4, MS3; keeps its similarity of audio and picture",
        tried="03e925d, own forward pass, random weights: within 1e-5",
        options="`repo`, `task`, `config`, `image_size`",
        quirks="as AVSegFormer",
    ),
    PublishedModel(
        adapter="tpavi",
        model="TPAVI",
        paper="Zhou et al., ECCV 2022 and IJCV 2024",
        repository="OpenNLPLab/AVSBench",
        licence="Apache-2.0",
        runs="S4, MS3, AVSS; ResNet-50 and PVT-v2-B5",
        tried="f7414af, own forward pass, random weights: within 1e-5",
        options="`repo`, `task`, `self_attention`, `image_size`, `vggish`",
        quirks="AVSS pads 5-second clips with 5 black frames, a group of its own: omitted, changes no real frame",
    ),
    PublishedModel(
        adapter="worker",
        model="COMBO-AVS",
        paper="Yang et al., CVPR 2024",
        repository="yannqi/COMBO-AVS",
        licence="see there",
        runs="S4, MS3, in its own environment",
        tried="cb8af1c, own evaluator, random weights: bit for bit",
        options="`docs/worker_combo.md`",
        quirks="softmax over sums of probabilities: values stay near the middle; kept",
    ),
)


def published_by(adapter: str) -> tuple[PublishedModel, ...]:
    """Return the published models that an adapter runs.

    Args:
        adapter: Name for ``--adapter``.
    """
    return tuple(model for model in PUBLISHED if model.adapter == adapter)


def table_row(model: PublishedModel) -> str:
    """Return a model's row of the table whose head is `TABLE_HEAD`."""
    repository = f"[{model.repository}](https://github.com/{model.repository})"
    cells = (
        f"`{model.adapter}`",
        f"{model.model} ({model.paper})",
        f"{repository}, {model.licence}",
        model.runs,
        model.tried,
        model.options,
        model.quirks,
    )
    return f"| {' | '.join(cells)} |"
