"""Remake broad_kinds.json: ``python make_broad_kinds.py AVSBENCH_ROBUST [--output FILE]``."""

from __future__ import annotations

import json

import published

GOLDEN = "broad_kinds.json"


def main() -> None:
    """Ask the generator for its two maps from category to supercategory."""
    arguments = published.parse_arguments(GOLDEN, "AVSBENCH_ROBUST")
    generator = published.load_module(arguments.AVSBENCH_ROBUST / "dataset_generation" / "audio_processing.py")
    maps = {kind: generator.get_semantic_category(kind) for kind in ("s4", "ms3")}
    source = published.read_json(GOLDEN)["source"]
    arguments.output.write_text(json.dumps({"source": source, **maps}, indent=1))


if __name__ == "__main__":
    main()
