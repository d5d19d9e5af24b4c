"""A condition of your own: the clip's sound, backwards. In a recipe: ``condition: reversed_condition.py:Reversed``."""

from dataclasses import dataclass

from avsrobust.conditions.signal_condition import SignalCondition


@dataclass(frozen=True)
class Reversed(SignalCondition):
    """The first `share` of the sound, backwards."""

    name = "reversed"
    polarity = "positive"
    share: float = 1.0

    def make(self, samples, sample_rate, level, generator):
        """Return the samples of one row."""
        length = round(self.share * len(samples))
        samples[:length] = samples[:length][::-1]
        return samples
