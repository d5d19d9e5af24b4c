"""A clip: the fields of one AVSBench video, defined once for data sets, plans and manifests.

Conventions
    A clip is one AVSBench video. All paths are relative to the data root, with forward slashes.
    `frames` and `masks` have equal length; `masks[i]` is None where frame i has no mask (S4 train: all but the first).
    A table declares a `DeclaredClip`; once its files are looked at it is a `Clip`; a manifest's row holds the fields of both
    that `avsrobust.manifest_values.Row` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SoundHeader:
    """Facts from the header of a recording.

    Attributes:
        sample_rate: In Hz.
        num_samples: Per channel.
        channels: Number of channels.
        subtype: libsndfile's name of the sample format.
        streamed: The header declares a made-up size, as programs do that write into a pipe; the file was read to its end.
        undeclared: Samples per channel that lie behind those that the header declares, and are not read.
    """

    sample_rate: int
    num_samples: int
    channels: int
    subtype: str
    streamed: bool = field(default=False, compare=False)
    undeclared: int = field(default=0, compare=False, repr=False)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class SoundContents:
    """Facts from all of a recording, as far as its clip lasts.

    Attributes:
        num_bytes: Size of the file.
        sha256: Checksum of the file.
        kinds: Those of `avsrobust.datasets.sound_contents.SOUND_KINDS` that hold.
        modified_ns: Time of the file's last change when it was read, in nanoseconds: tells whether the facts still hold.
    """

    num_bytes: int
    sha256: str
    kinds: tuple[str, ...]
    modified_ns: int


@dataclass(frozen=True)
class DeclaredClip:
    """A clip as its table declares it, before any of its files is looked at.

    Attributes:
        dataset: Canonical name of the data set.
        split: "train", "val" or "test".
        clip_id: Unique in the data set; a safe relative path.
        labels: Categories. Empty where nothing on screen makes a sound, as the data set itself says (`has_no_label`), and
            where the categories are not known.
        broad: Supercategories of the labels.
        frames: A picture for each second.
        masks: A picture for each frame, or None.
        audio: The recording.
        has_no_label: The table says that nothing on screen sounds (`avsrobust.datasets.slips`).
    """

    dataset: str
    split: str
    clip_id: str
    labels: tuple[str, ...]
    broad: tuple[str, ...]
    frames: tuple[str, ...]
    masks: tuple[str | None, ...]
    audio: str
    has_no_label: bool = field(default=False, kw_only=True)

    @property
    def num_frames(self) -> int:
        """Number of frames, one per second of sound."""
        return len(self.frames)


@dataclass(frozen=True)
class Clip(DeclaredClip):
    """A clip whose files are in order.

    Attributes:
        sound: Facts from its recording's header.
        picture_size: (width, height) of its frames in pixels; None where nobody looked.
        is_muted: Nothing can be heard in the recording; the survey of contents sets this.
        foreground: The rule by which its binary masks are read (`avsrobust.vocabulary.FOREGROUND_RULES`); the survey
            of contents sets this.
        sound_contents: Facts from the recording itself, where it was read whole for its header.
    """

    sound: SoundHeader
    picture_size: tuple[int, int] | None = field(default=None, kw_only=True)
    is_muted: bool = field(default=False, kw_only=True)
    foreground: str = field(default="non-zero", kw_only=True)
    sound_contents: SoundContents | None = field(default=None, kw_only=True, compare=False, repr=False)
