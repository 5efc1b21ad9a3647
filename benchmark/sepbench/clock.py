"""How long a stage of training has taken, and whether its time is over."""

from __future__ import annotations

import time

from sepbench.ranks import agreed, here

FORWARD = 1 / 3  # of a step's time: learning from a batch takes about three times as long as judging by one


class Clock:
    """The time that a stage has spent over all its starts; of an epoch that was interrupted, nothing counts.

    `seconds` is what it may spend, None: no end. It is up early enough for the validation that ends an epoch.
    """

    def __init__(self, seconds: float | None, valid_batches: int) -> None:
        self.seconds, self.valid_batches = seconds, valid_batches
        self.began_s = time.perf_counter()
        self.before_s = 0.0  # spent by earlier starts
        self.n_steps = 0  # of this start
        self._closing_since_s: float | None = None
        self._closing_s: float | None = None  # what the end of the last epoch has taken
        self._told = 0.0  # share of the time, as the first rank said when it was last asked

    @property
    def here_s(self) -> float:
        """Spent by this start."""
        return time.perf_counter() - self.began_s

    @property
    def spent_s(self) -> float:
        return self.before_s + self.here_s

    @property
    def share(self) -> float:
        """Of its time, 0 to 1; 0 where there is no end. Of several ranks, all have that of the last step's end."""
        return self._own_share() if here().n == 1 else self._told

    @property
    def is_up(self) -> bool:
        """Whether what is left is needed to end the epoch. The first epoch's end is reckoned by the time of its steps.

        Of several ranks, the first one's clock counts: all ask at the same steps, and stop at the same one.
        """
        if self.seconds is None:
            return False
        up, self._told = agreed((self._is_up(self.seconds), self._own_share()))
        return up

    def _own_share(self) -> float:
        return min(1.0, self.spent_s / self.seconds) if self.seconds is not None else 0.0

    def _is_up(self, seconds: float) -> bool:
        reckoned_s = FORWARD * self.valid_batches * self.here_s / max(1, self.n_steps)
        return self.spent_s + (reckoned_s if self._closing_s is None else self._closing_s) >= seconds

    def closing(self) -> None:
        """An epoch's steps are through."""
        self._closing_since_s = time.perf_counter()

    def closed(self) -> None:
        """It is validated and kept."""
        if self._closing_since_s is not None:
            self._closing_s = time.perf_counter() - self._closing_since_s
