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
        adapter="cavp",
        model="CAVP",
        paper="Chen et al., CVPR 2024",
        repository="cyh-0/CAVP",
        licence="none stated",
        runs="S4 and MS3 (2 classes), AVSS (71); DeepLabV3+ on ResNet-18, -50, -101",
        tried="96a6c34 in its own environment (torch 2.0.1, torchaudio 2.0.2): own loaders, front end and forward pass, "
        "random weights, real media, four conditions: 0 mask pixels differ (71 classes: at most 11 of 501760, ties within "
        "3e-7); waveforms within 3e-6, 9e-6 for full-scale noise",
        options="`repo`, `behaviour`, `loader`, `image_size`",
        quirks="of a 5 s clip its loaders keep 2.5 to 5.0 s, four times over: kept under behaviour=released, the whole clip "
        "under behaviour=paper; its test views 10 s as 5 pieces of 2 s, training on MS3 as 10 of 1 s; a named pretrained "
        "ResNet file is loaded even where none is asked for: not here",
    ),
    PublishedModel(
        adapter="stepping_stones",
        model="Stepping-Stones (AAVS)",
        paper="Ma et al., ECCV 2024",
        repository="GeWu-Lab/Stepping-Stones",
        licence="none stated",
        runs="S4, MS3, and AVSS with first-stage masks, in its own environment",
        tried="de6a17b with its own transformers 4.35.2 (torch 2.13, tokenizers 0.15.2): own loaders and forward pass, random "
        "weights, thinner layers, real media, four conditions: 0 mask pixels differ, S4 and AVSS; towhee's VGGish was not to "
        "be had",
        options="`repo`, `python`, `masks`, `config`, `workers`, `timeout`, `vggish`",
        quirks="mask by argmax, F from sigmoid(2 b - a): both kept; scores and masks at 224 pixels whatever the frame's "
        "size; AVSS reads first-stage masks by clip alone: here by condition",
    ),
    PublishedModel(
        adapter="worker",
        model="COMBO-AVS",
        paper="Yang et al., CVPR 2024",
        repository="yannqi/COMBO-AVS",
        licence="see there",
        runs="S4, MS3, in its own environment",
        tried="cb8af1c, own evaluator, random weights: bit for bit",
        options="`command`, `repo`, `config`, `frames`, `maskiges`, `size`",
        quirks="softmax over sums of probabilities: values stay near the middle; kept",
    ),
    PublishedModel(
        adapter="gavs",
        model="GAVS",
        paper="Wang et al., AAAI 2024",
        repository="GeWu-Lab/Generalizable-Audio-Visual-Segmentation",
        licence="MIT",
        runs="S4, MS3, AVSS as binary; ViT-B, ViT-L, ViT-H",
        tried="753b23b, own AVSM on real frames, ViT-B at 1024 pixels, random weights: bit for bit, 0 of 501,760 mask "
        "pixels differ",
        options="`repo`, `embedder`, `features`, `tune_v`, `threshold`",
        quirks="masks at 0.4 (kept: `threshold`); frames enter as blue, green, red (kept); its audio feature files are signed, "
        "so made without VGGish's last ReLU (`features`); importing its configuration parses the command line and sets "
        "CUDA_VISIBLE_DEVICES (taken back); no checkpoint is released",
    ),
    PublishedModel(
        adapter="sama",
        model="SAMA-AVS",
        paper="Liu et al., WACV 2024",
        repository="jinxiang-liu/anno-free-AVS",
        licence="none stated",
        runs="S4, MS3",
        tried="15e6b04, own SAM.infer on real frames, width 768 and 4 blocks at 512 pixels, random weights: within 2e-7, 1 of "
        "5,242,880 mask pixels differs, which is 0.5 up to rounding",
        options="`repo`, `config`",
        quirks="scores masks at 1024 pixels (`--score-size 1024`); the audio enters every block, so that each condition is a "
        "whole pass",
    ),
    PublishedModel(
        adapter="ddeseg",
        model="DDESeg",
        paper="Liu et al., CVPR 2025",
        repository="YenanLiu/DDESeg",
        licence="Apache-2.0; its README says MIT",
        runs="S4, MS3, AVSS; backbone FAVS",
        tried="75a8471, own network on real frames, one block per stage at 64 pixels, random weights and memory bank: "
        "within 3e-7, "
        "0 of 20,480 mask pixels differ",
        options="`repo`, `bank`, `config`, `image_size`",
        quirks="draws Gumbel noise in evaluation (the row's seed makes it); its configuration makes mel filters of NaN "
        "(fmin = fmax = 50 Hz), so that the checkpoint must bring them (else refused); its Swin configurations cannot be built",
    ),
    PublishedModel(
        adapter="worker",
        model="VCT",
        paper="Huang et al., CVPR 2025",
        repository="spyflying/VCT_AVS",
        licence="Apache-2.0",
        runs="S4, MS3, by the worker of COMBO-AVS",
        tried="9a18d2f, own mapper and network on detectron2-cdo 0.5's Python code, a small Swin, random weights: bit for bit",
        options="`command`, `repo`, `config`, `frames`, `maskiges`, `size`",
        quirks="as COMBO-AVS; its S4 configuration names data sets (avss4_sem_seg_384_train) that its code registers without 384",
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
