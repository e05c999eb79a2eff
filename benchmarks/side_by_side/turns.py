"""Measurement of contenders in turns, A, B, C, A, B, C, …, so that other load on the machine affects all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from side_by_side.contender import Contender, Failed
from side_by_side.spread import Absent, Found, Spread


@dataclass(frozen=True)
class Measured:
    """Results of each contender's rounds, or the reason for their absence."""

    results: Mapping[str, Sequence[Mapping[str, float]]]
    absent: Mapping[str, Absent]

    def of(self, contender: str, number: str) -> Found:
        """Return one number of a contender, by name."""
        if contender in self.absent:
            return self.absent[contender]
        return Spread(tuple(result[number] for result in self.results[contender]))


def take_turns(contenders: Sequence[Contender], rounds: int, say: Callable[[str], None]) -> Measured:
    """Run every contender once per round. One that cannot run, or fails once, is left out from then on."""
    results: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    absent = {each.name: Absent(why) for each in contenders if (why := each.lacks()) is not None}
    for number in range(rounds):
        for contender in contenders:
            if contender.name in absent:
                continue
            say(f"  round {number + 1} of {rounds}: {contender.name}")
            try:
                results[contender.name].append(contender.run(number))
            except Failed as error:
                say(f"  {contender.name}: {error}")
                absent[contender.name] = Absent(str(error))
    return Measured(results, absent)
