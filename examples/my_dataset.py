"""A data set of your own: `avsrobust build --dataset my_dataset.py:Rooms`.

rooms/clips.csv                    columns: clip, sounds (categories, joined by "+"), split
rooms/{clip}/frames/{0..4}.png     a frame per second
rooms/{clip}/masks/{0..4}.png      any pixel that is not black is foreground; in train, frame 0 alone has a mask
rooms/{clip}/sound.wav
"""

from avsrobust.datasets.clip_rows import ClipFiles, ClipRow, accept
from avsrobust.datasets.spec import DataSetSpec, DeclaredDataSet
from avsrobust.datasets.tables import read_table
from avsrobust.datasets.taxonomy import Categories

FILES = ClipFiles(
    frames="{clip}/frames/{number}.png",
    masks="{clip}/masks/{number}.png",
    audio="{clip}/sound.wav",
    num_frames=5,
    first=0,
)


class Rooms(DataSetSpec):
    """Rooms with one or more sounding objects."""

    name = "rooms"
    # Off-screen sounds are of another supercategory; music, human, animal and device are those of AVSBench.
    categories = Categories({"piano": "music", "guitar": "music", "voice": "human", "dog": "animal", "phone": "device"})

    def declare(self, root, splits, release):
        """Declare the clips of clips.csv that are in order."""
        table = read_table(root, "rooms/clips.csv", source="the rooms")
        column = table.require("clip", "sounds", "split")
        rows = []
        for row in table.rows:
            clip, sounds, split = (row.cells[column[name]] for name in ("clip", "sounds", "split"))
            rows.append(ClipRow(row, clip, split, {"clip": clip}, tuple(sounds.split("+"))))
        good, findings, rows_per_split = accept(table, rows, splits, self.categories)
        return DeclaredDataSet(
            layout="rooms/",
            clips=tuple(FILES.declare(self, "rooms", row, only_first_mask=row.split == "train") for row in good),
            findings=(*table.findings, *findings),
            rows_per_split=rows_per_split,
        )
