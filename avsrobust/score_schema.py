"""The columns of ``scores.parquet``, in the order of the file; `avsrobust.results` says what they hold."""

from __future__ import annotations

import pyarrow as pa

from avsrobust.mask_overlaps import OVERLAPS_FIELD
from avsrobust.metrics.binary.counts import HISTOGRAMS, NUM_THRESHOLDS
from avsrobust.metrics.semantic.counts import COUNTS as CLASS_COUNTS

COUNT_COLUMNS = ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040")
HISTOGRAM_COLUMNS = HISTOGRAMS
# Rows in a row group: results of a published data set are one group.
ROW_GROUP = 1 << 16
SORT_COLUMNS = ["split", "clip_id", "condition", "level", "draw", "frame"]

INDEX_FIELDS = (
    pa.field("split", pa.string(), nullable=False),
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("labels", pa.list_(pa.string()), nullable=False),
    pa.field("condition", pa.string(), nullable=False),
    pa.field("polarity", pa.string(), nullable=False),
    pa.field("level", pa.float32()),
    pa.field("frame", pa.int32(), nullable=False),
    pa.field("clean_intersection", pa.int64()),
    pa.field("clean_union", pa.int64()),
)
SCHEMA = pa.schema(
    [
        *INDEX_FIELDS,
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNT_COLUMNS),
        *(pa.field(name, pa.list_(pa.int32(), NUM_THRESHOLDS), nullable=False) for name in HISTOGRAM_COLUMNS),
    ]
)
CLASSES_FIELD = pa.field(
    "classes",
    pa.list_(pa.struct([pa.field("class_id", pa.int32()), *(pa.field(name, pa.int64()) for name in CLASS_COUNTS)])),
    nullable=False,
)
# Written only where a condition was drawn more than once; without it every row is draw 0.
DRAW_FIELD = pa.field("draw", pa.int16(), nullable=False)
INDEX_COLUMNS = [*(entry.name for entry in INDEX_FIELDS), DRAW_FIELD.name]


def schema_with(*, draws: bool, overlaps: bool, classes: bool) -> pa.Schema:
    """Return the schema of a file with some of the columns that not every file has."""
    schema = SCHEMA.insert(len(INDEX_FIELDS), DRAW_FIELD) if draws else SCHEMA
    schema = schema.append(OVERLAPS_FIELD) if overlaps else schema
    return schema.append(CLASSES_FIELD) if classes else schema
