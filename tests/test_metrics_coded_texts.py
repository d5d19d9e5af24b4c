"""Texts as numbers: what numpy's strings do, in a byte each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.metrics import PROTOCOLS, ScoredFrames, clip_scores, frame_statistics
from avsrobust.metrics.coded_texts import CodedTexts


def coded(texts: list[str]) -> CodedTexts:
    words = list(dict.fromkeys(texts))
    return CodedTexts(words, np.array([words.index(text) for text in texts], dtype=np.int64))


@given(st.lists(st.sampled_from(["clean", "noise", "offscreen", "a@-3.5", "é"])), st.data())
def test_they_do_what_numpys_do(texts: list[str], data: st.DataObject) -> None:
    found, expected = coded(texts), np.array(texts, dtype=np.str_)
    assert (len(found), found.shape, found.dtype) == (len(expected), expected.shape, expected.dtype)
    assert np.asarray(found).tolist() == texts
    for word in ("noise", "other"):
        assert (found == word).tolist() == (expected == word).tolist()
        assert (found != word).tolist() == (expected != word).tolist()
    assert (found == expected).all()
    chosen = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=4)) if texts else [], dtype=np.int64)
    assert found[chosen].tolist() == expected[chosen].tolist()
    assert found[1:].tolist() == expected[1:].tolist()
    assert found.ranks.tolist() == np.unique(expected, return_inverse=True)[1].tolist()


def test_they_take_a_byte_each() -> None:
    found = CodedTexts(["clean", "offscreen"], np.zeros(1000, dtype=np.int64))
    assert found._codes.nbytes == 1000
    many = CodedTexts([str(number) for number in range(300)], np.arange(300))
    assert many[299] == "299"
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(found, copy=False)


def test_scores_of_frames_are_the_same() -> None:
    generator = np.random.default_rng(0)
    texts = [str(text) for text in generator.choice(["silence", "clean", "noise"], 30)]
    pred = generator.random((30, 4, 4), dtype=np.float32)
    statistics, clip = frame_statistics(pred, pred > 0.6), np.arange(30) // 6
    negative = np.array(texts) != "clean"
    one, other = (ScoredFrames(statistics, clip, condition, negative) for condition in (np.array(texts), coded(texts)))
    found = [clip_scores(frames, PROTOCOLS["avsbench"]) for frames in (one, other, other.select(slice(None)))]
    for scores in found[1:]:
        assert (scores.condition == found[0].condition).all()
        assert (scores.numerator == found[0].numerator).all()
