"""Limits on sizes that files declare: checked before memory is taken, so that a small file cannot ask for a large machine.

Conventions
    A limit is far above anything AVSBench or a published model has, and far below what stops a machine of 16 GiB.
    One option raises all of them: ``avsrobust --raise-limits FACTOR COMMAND``, or the environment variable
    `ENVIRONMENT` = FACTOR, which worker processes inherit. Limits are never lowered.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from avsrobust.errors import AvsRobustError, OptionError

ENVIRONMENT = "AVSROBUST_RAISE_LIMITS"
OPTION = "--raise-limits"


@dataclass(frozen=True)
class Limit:
    """The largest accepted size of one thing: its value, its unit (for messages), and why it is that."""

    value: int
    unit: str
    reason: str

    @property
    def current(self) -> int:
        """The value in force: `value` times the factor of `ENVIRONMENT`."""
        return int(self.value * raised_by())

    def check(self, found: int, where: object, error: type[AvsRobustError]) -> None:
        """Raise `error` where `found` is above the limit; `where` names the file and what was measured in it."""
        # Limits are only ever raised: most of the time nobody need ask the environment.
        if found > self.value and found > self.current:
            raise error(
                f"{where}: found {found:,} {self.unit}; expected at most {self.current:,} ({self.reason}); "
                f"if the file is right, run again with {OPTION} {max(2, math.ceil(found / self.value))}"
            )


PICTURE_PIXELS = Limit(64_000_000, "pixels", "8K video has 33 million")
TABLE_BYTES = Limit(64 << 20, "bytes", "AVSBench's largest table has 1 MB")
TABLE_ROWS = Limit(1_000_000, "rows", "AVSBench's largest table has 11,356")
TEXT_BYTES = Limit(8 << 20, "bytes", "configurations have a few kB")
YAML_BYTES = Limit(256 << 10, "bytes", "recipes have a few kB, and YAML is read slowly")
PICTURE_BYTES = Limit(512 << 20, "bytes", "a picture of the most pixels has 0.4 GB uncompressed")
SOUND_BYTES = Limit(
    128 << 20, "bytes of samples", "a clip of 10 s has 2 MB, eleven minutes of 48 kHz stereo have 126 MB"
)
ARRAY_BYTES = Limit(1 << 30, "bytes", "a clip's masks have a few MB")
WEIGHTS_BYTES = Limit(16 << 30, "bytes", "Swin-L weights have 1 GB")
MESSAGE_BYTES = Limit(2 << 30, "bytes", "a batch of 32 clips of 1280 x 720 frames has 0.9 GB")
PARQUET_BYTES = Limit(16 << 30, "bytes", "scores of all of AVSS under ten conditions have 3 GB")
MANIFEST_ROWS = Limit(2_000_000, "rows", "AVSS under a hundred conditions has 1.1 million")
MANIFEST_VALUES = Limit(200_000_000, "values in one column", "AVSS under a hundred conditions has 9 million frames")
MANIFEST_TEXT = Limit(4 << 30, "bytes of text", "AVSS under a hundred conditions has 1 GB")
METADATA_BYTES = Limit(256 << 20, "bytes", "a manifest's notes and skipped clips have a few MB")


def raised_by() -> float:
    """Return the factor by which the user raised the limits, 1 where they did not. Raises `OptionError` for a bad one."""
    text = os.environ.get(ENVIRONMENT, "")
    return parse_factor(text, f"{ENVIRONMENT}={text}") if text else 1.0


def parse_factor(text: str, written: str = "") -> float:
    """Return the factor that a user wrote; `written`: how (by default, as the option).

    Raises `OptionError` for anything else than a number from 1 to 1000000.
    """
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 1 <= factor <= 1e6:
        raise OptionError(f"{written or f'{OPTION} {text}'}: expected a factor from 1 to 1000000")
    return factor
