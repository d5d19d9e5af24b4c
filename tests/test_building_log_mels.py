from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust.audio.front_ends import log_mel_of_file
from avsrobust.audio.io import write_wav
from avsrobust.building.engine import Engine, open_engine
from avsrobust.building.layout import Shard
from avsrobust.building.log_mels import make_shard, make_shards, shard_tasks
from avsrobust.building.render import Roots
from avsrobust.errors import AudioError
from avsrobust.manifest import DATA_PREFIX

NAMES = [f"{DATA_PREFIX}{name}.wav" for name in "abcde"]
SOUNDS = [(name, front_end) for name in NAMES for front_end in ("librosa", "vggish")]
ROOTS = Roots(Path("/nowhere/build"), Path("/nowhere/data"))


@st.composite
def layouts(draw: st.DrawFn) -> list[Shard]:
    """Draw shards as a layout has them: the sounds of each length sorted and cut into parts."""
    shards = []
    for num_frames in draw(st.sets(st.sampled_from([5, 7, 10]), min_size=1)):
        sounds = sorted(draw(st.sets(st.sampled_from(SOUNDS), min_size=1, max_size=8)))
        size = draw(st.integers(1, 4))
        for number, start in enumerate(range(0, len(sounds), size)):
            path = f"log_mel/test/T{num_frames}/{number:05d}.npy"
            shards.append(Shard(path, num_frames, tuple(sounds[start : start + size])))
    return shards


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(layouts())
def test_one_shard_reads_a_recording_and_the_others_are_given_theirs_in_a_later_round(shards: list[Shard]) -> None:
    rounds = shard_tasks(ROOTS, shards)
    assert sorted(task.shard.path for tasks in rounds for task in tasks) == sorted(shard.path for shard in shards)
    handed: set[Shard] = set()
    readers: list[str] = []
    for tasks in rounds:
        for task in tasks:
            # Given is what an earlier round has handed on; a part of the shard itself, of its length.
            assert set(task.given) <= handed
            assert all(part.num_frames == task.shard.num_frames for part in task.given)
            given_sounds = [sound for part in task.given for sound in part.sounds]
            assert len(set(given_sounds)) == len(given_sounds)
            assert set(given_sounds) <= set(task.shard.sounds)
            own = {audio for audio, _ in task.shard.sounds} - {audio for audio, _ in given_sounds}
            assert {audio for part in task.handed_on for audio, _ in part.sounds} <= own
            readers += own
        handed.update(part for task in tasks for part in task.handed_on)
    assert len(readers) == len(set(readers))
    assert handed == {part for tasks in rounds for task in tasks for part in task.given}
    assert len({part.path for part in handed}) == len(handed)


def test_shards_without_a_common_recording_are_made_in_one_round_in_their_order() -> None:
    shards = [Shard(f"log_mel/test/T5/{number:05d}.npy", 5, ((name, "vggish"),)) for number, name in enumerate(NAMES)]
    (tasks,) = shard_tasks(ROOTS, shards)
    assert [task.shard for task in tasks] == shards
    assert not any(task.given or task.handed_on for task in tasks)
    assert shard_tasks(ROOTS, []) == []


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    generator = np.random.default_rng(0)
    for name, seconds in zip(NAMES, (3, 5, 9, 10, 75), strict=True):
        # The last reaches beyond what is read with a clip of 5 frames, and of 10.
        samples = generator.integers(-9000, 9000, 8000 * seconds).astype(np.int16)
        path = tmp_path / "data" / name.removeprefix(DATA_PREFIX)
        path.parent.mkdir(exist_ok=True)
        write_wav(path, samples, 8000)
    return Roots(tmp_path / "build", tmp_path / "data")


SHARDS = [
    Shard("log_mel/test/T5/00000.npy", 5, tuple((name, "vggish") for name in NAMES[:3])),
    Shard("log_mel/test/T5/00001.npy", 5, ((NAMES[3], "librosa"), (NAMES[3], "vggish"), (NAMES[4], "librosa"))),
    Shard("log_mel/test/T5/00002.npy", 5, ((NAMES[4], "vggish"),)),
    Shard("log_mel/test/T10/00000.npy", 10, tuple((name, "vggish") for name in NAMES[2:])),
]


def left(roots: Roots) -> set[str]:
    files = (path for path in roots.output.rglob("*") if path.is_file() and ".journal" not in path.parts)
    return {path.relative_to(roots.output).as_posix() for path in files}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_arrays_are_those_of_each_recording_read_by_itself(roots: Roots, workers: int) -> None:
    with open_engine("local", workers) as engine:
        made = list(make_shards(engine, roots, SHARDS))
    assert sorted(shard.path for shard, _ in made) == sorted(shard.path for shard in SHARDS) == sorted(left(roots))
    for shard, entry in made:
        content = (roots.output / shard.path).read_bytes()
        assert (entry.path, entry.num_bytes) == (shard.path, len(content))
        array = np.load(roots.output / shard.path)
        assert (array.shape, array.dtype) == (shard.shape, np.float32)
        for (audio, front_end), log_mel in zip(shard.sounds, array, strict=True):
            expected = log_mel_of_file(front_end, roots.sound_path(audio), shard.num_frames)
            assert np.array_equal(log_mel, expected)


def test_an_error_leaves_nothing_that_was_handed_on(roots: Roots) -> None:
    # Of the first round only the shard of 10 frames is made: the first of 5 frames reads what is not there.
    roots.sound_path(NAMES[0]).unlink()

    class Reversed(Engine):
        def map(self, function, tasks):  # type: ignore[no-untyped-def]
            return map(function, sorted(tasks, key=lambda task: -task.shard.num_frames))

    (first, *_) = shard_tasks(roots, SHARDS)
    (longest,) = [task for task in first if task.shard.num_frames == 10]
    assert longest.handed_on
    make_shard(longest)
    assert {part.path for part in longest.handed_on} <= left(roots)
    with pytest.raises(AudioError, match=r"a\.wav: found no file"):
        list(make_shards(Reversed(), roots, SHARDS))
    assert left(roots) == {SHARDS[3].path}
