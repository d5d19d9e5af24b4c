"""The audio of a row, in the form that a model takes.

Conventions
    waveform: float32 [S], mono, S = T seconds at the model's rate, or [2, S]. log_mel: float32 [T, 1, 96, 64]. embedding:
    float32 [T, 128], VGGish's output for that log-mel, with weights from the file of ``--option vggish=FILE``. native:
    a `NativeSound`, the whole sound as it is stored.
    Every tensor is the caller's own: changing it changes nothing elsewhere.
    A row without a sound file is made by its definition, from recordings that are checked first.
    A sound file's checksum is compared with the manifest's when it is first read, a log-mel array's with the build's checksums
    when it is first opened, and again when it has changed since: an array whose bytes have changed would otherwise give other
    numbers without notice.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from weakref import proxy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.adapters.base import VGGISH_OPTION, AudioInput, NativeSound
from avsrobust.arrays import map_npy
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.audio.io import FULL_SCALE
from avsrobust.audio.made import FileReader, log_mel_of_row, render_row
from avsrobust.checksums import Checksums, load_checksums
from avsrobust.errors import AdapterError, ManifestError
from avsrobust.files import sha256_of_file
from avsrobust.manifest import MADE_PREFIX, Manifest, Row

# Of 64 sounds each, 16 MB where clips have ten seconds.
_MOST_MAPPED = 8
_NO_WEIGHTS = (
    f"the model takes VGGish embeddings, but their weights are not named; expected --option {VGGISH_OPTION}=FILE, "
    "or --vggish FILE of 'avsrobust train' (torchvggish's weights, .pth or .safetensors)"
)


class SoundReader:
    """Reads the audio of a manifest's rows; may be copied to other processes (files that it has open are not).

    Args:
        manifest: The manifest.
        data_root: Folder of the data set.
        audio: Form of the audio.
        vggish: File of VGGish's weights; needed for embeddings.
        device: Device on which embeddings are computed; None: the CPU.

    Raises:
        AdapterError: Embeddings are requested without weights, or the weights cannot be read.
    """

    def __init__(
        self,
        manifest: Manifest,
        data_root: Path,
        audio: AudioInput,
        vggish: Path | None = None,
        device: torch.device | None = None,
    ) -> None:
        if audio.kind == "embedding" and vggish is None:
            raise AdapterError(_NO_WEIGHTS)
        self._manifest = manifest
        self._data_root = data_root
        self._audio = audio
        self._vggish = vggish
        self._device = device or torch.device("cpu")
        self._arrays: OrderedDict[str, npt.NDArray[Any]] = OrderedDict()
        self._whole: dict[str, tuple[int, ...]] = {}
        self._lock = threading.Lock()
        self._checked: set[str] = set()
        self._file_sums: Checksums | None = None
        self._files = self._file_reader()
        self._embed: Callable[[Tensor], Tensor] | None = None
        if vggish is not None and audio.kind == "embedding":
            self._embed = _load_embedding(vggish, self._device)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all its contents.
        empty: dict[str, Any] = {
            "_arrays": OrderedDict(),
            "_whole": {},
            "_checked": set(),
            "_file_sums": None,
            "_embed": None,
        }
        return {name: value for name, value in {**self.__dict__, **empty}.items() if name not in ("_lock", "_files")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _files=self._file_reader())

    def _file_reader(self) -> FileReader:
        # Not of a method of its own: the maps of files are closed when nobody refers to this any more.
        return FileReader(partial(SoundReader._locate, proxy(self)))

    @property
    def build(self) -> Manifest:
        """The manifest."""
        return self._manifest

    def read_sound(self, row: Row) -> Tensor | NativeSound:
        """Return the audio of a row in whatever form was requested (see the module's conventions).

        Raises:
            ManifestError: A file is missing or is not the one that was built.
            AudioError: The sound file is damaged.
        """
        return self._native(row) if self._audio.kind == "native" else self.read(row)

    def read(self, row: Row) -> Tensor:
        """Return the audio of a row as a tensor (see the module's conventions).

        Raises:
            ManifestError: A file is missing or is not the one that was built.
            AudioError: The sound file is damaged.
            AdapterError: The form is native, whose sounds are no tensors of one shape.
        """
        if self._audio.kind == "native":
            raise AdapterError(
                "audio: native sound has no tensor of one shape; expected a waveform, log_mel or embedding"
            )
        if self._audio.kind == "waveform":
            return self._waveform(row)
        log_mel = torch.from_numpy(np.array(self._log_mel(row)))
        if self._audio.kind == "log_mel":
            return log_mel
        return self._embedding(log_mel)

    def view(self, row: Row) -> npt.NDArray[np.float32]:
        """Return what `read` does as an array for reading alone, which may be a map of the build's file; raises as `read`."""
        if self._audio.kind == "log_mel":
            return self._log_mel(row)
        return self.read(row).numpy()

    def _embedding(self, log_mel: Tensor) -> Tensor:
        if self._embed is None and self._vggish is not None:
            self._embed = _load_embedding(self._vggish, self._device)
        if self._embed is None:
            raise AdapterError(_NO_WEIGHTS)
        with torch.no_grad():
            return self._embed(log_mel[None].to(self._device))[0].cpu()

    def _waveform(self, row: Row) -> Tensor:
        from avsrobust.audio.io import read_waveform, to_waveform

        rate = self._audio.sample_rate or row.sample_rate
        length = row.num_frames * rate
        form: dict[str, Any] = {"resampler": self._audio.resampler, "mono": self._audio.mono}
        if row.audio.startswith(MADE_PREFIX):
            rendered, source_rate = render_row(row, self._files)
            samples = rendered.samples / FULL_SCALE
            return torch.from_numpy(to_waveform(samples, source_rate, rate, length, of=row.audio, **form))
        return torch.from_numpy(read_waveform(self._checked_path(row), rate, length, **form))

    def _native(self, row: Row) -> NativeSound:
        from avsrobust.audio.io import read_stored

        if row.audio.startswith(MADE_PREFIX):
            rendered, rate = render_row(row, self._files)
            samples = np.asarray(rendered.samples / FULL_SCALE, dtype=np.float32)
            return NativeSound(torch.from_numpy(samples.reshape(len(samples), -1)), rate)
        path = self._checked_path(row)
        stored, rate = read_stored(path)
        scale = FULL_SCALE if stored.dtype == np.int16 else 1
        return NativeSound(torch.from_numpy(np.asarray(stored / scale, dtype=np.float32)), rate, path.absolute())

    def _checked_path(self, row: Row) -> Path:
        """Return the path of a row's sound file, once its bytes are those that were built."""
        path = self._manifest.audio_path(row, self._data_root)
        if str(path) not in self._checked:
            self._check(path, row)
            self._checked.add(str(path))
        return path

    def _locate(self, name: str) -> Path:
        """Return a recording that sounds are made from, once its bytes are those that were built from."""
        path = self._manifest.file(name, self._data_root)
        if str(path) not in self._checked:
            self._sums().check_file(name, path)
            self._checked.add(str(path))
        return path

    def _sums(self) -> Checksums:
        if self._file_sums is None:
            self._file_sums = load_checksums(self._manifest) or Checksums({}, self._manifest.path)
        return self._file_sums

    def _check(self, path: Path, row: Row) -> None:
        try:
            found = sha256_of_file(path)
        except OSError as error:
            raise ManifestError(f"{path}: cannot be read ({error.strerror}); {self._manifest.path} needs it") from error
        if found != row.audio_sha256:
            raise ManifestError(
                f"{path}: has SHA-256 {found[:12]}..; {self._manifest.path} was built with {row.audio_sha256[:12]}..; "
                "restore the file or build again"
            )

    def _check_array(self, row: Row, path: Path) -> None:
        """Compare an array with the build's checksums, once: until the file is another one, or written to."""
        if not self._manifest.info.checksums_sha256:
            return
        state: tuple[int, ...] = ()
        # The check says what is wrong with a file that is not there.
        with contextlib.suppress(OSError):
            found = path.stat()
            state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if not state or self._whole.get(row.log_mel) != state:
            self._sums().check_file(row.log_mel, path)
            self._whole[row.log_mel] = state

    def _array(self, row: Row) -> npt.NDArray[Any]:
        """Return the array that holds a row's log-mel; few are mapped at a time, since what was read of a map stays in memory."""
        with self._lock:
            array = self._arrays.pop(row.log_mel, None)
            if array is None:
                path = self._manifest.log_mel_path(row)
                self._check_array(row, path)
                array = _open_array(path)
            self._arrays[row.log_mel] = array
            if len(self._arrays) > _MOST_MAPPED:
                self._arrays.popitem(last=False)
        return array

    def _log_mel(self, row: Row) -> npt.NDArray[np.float32]:
        """Return the log-mel of a row, of most a map of the file that holds it."""
        if row.log_mel.startswith(MADE_PREFIX):
            return log_mel_of_row(row, self._files)
        array = self._array(row)
        expected = (row.num_frames, 1, STEPS, BANDS)
        if not 0 <= row.log_mel_row < len(array) or array.shape[1:] != expected or array.dtype != np.float32:
            raise ManifestError(
                f"{self._manifest.log_mel_path(row)}: holds {array.dtype} {list(array.shape)}; expected float32 "
                f"[more than {row.log_mel_row}, {', '.join(map(str, expected))}] for {row.clip_id}/{row.condition}; build again"
            )
        found: npt.NDArray[np.float32] = array[row.log_mel_row]
        return found


def check_weights(audio: AudioInput, vggish: Path | None) -> None:
    """Raise `AdapterError` unless there are weights of VGGish, where the audio takes them, that can be read."""
    if audio.kind != "embedding":
        return
    if vggish is None:
        raise AdapterError(_NO_WEIGHTS)
    _load_embedding(vggish, torch.device("cpu"))


def _load_embedding(weights: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    from avsrobust.audio.vggish import load_vggish

    return load_vggish(weights).to(device).embedding


def _open_array(path: Path) -> npt.NDArray[Any]:
    """Map an array of one clip's features per entry. Raises `ManifestError`."""
    try:
        # A plain array over the map: numpy's own class for maps takes its time for every index.
        array = np.asarray(map_npy(path, ManifestError, "build again"))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read as an array ({error}); build again") from error
    if array.ndim == 0:
        raise ManifestError(f"{path}: is not a single array; build again")
    return array
