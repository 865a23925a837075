"""What keeps an endpoint from being asked too often, or while it is down. Threads may share both."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Breaker", "Pace"]

_MINUTE = 60.0


class Pace:
    """No more than so many requests in any minute.

    Args:
        per_minute: Most requests; None for no limit.
        clock: Seconds that only grow.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._times: deque[float] | None = None if per_minute is None else deque(maxlen=per_minute)
        self._clock = clock
        self._lock = threading.Lock()

    def reserve(self, latest: float = float("inf")) -> float:
        """Take the next free place.

        Args:
            latest: Time of the clock after which the place is of no use; it is not taken then.

        Returns:
            Seconds until that place.
        """
        if self._times is None:
            return 0.0
        with self._lock:
            now = self._clock()
            full = len(self._times) == self._times.maxlen
            place = max(now, self._times[0] + _MINUTE) if full else now
            if place <= latest:
                self._times.append(place)
            return place - now


class Breaker:
    """Says no while an endpoint is down: after so many failures in a row, for so many seconds, and again after one more.

    Args:
        failures: Failures in a row; None for never.
        seconds: How long it says no.
        clock: Seconds that only grow.
    """

    def __init__(self, failures: int | None, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = failures, seconds, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = self._alive = -math.inf
        self.reason = ""
        """What the last failure was."""

    def closed_for(self) -> float:
        """Seconds for which no request may go; 0 where one may."""
        return max(0.0, self._until - self._clock())

    def alive(self) -> None:
        """The endpoint is there, whatever it answered."""
        with self._lock:
            self._failures, self._until, self._alive = 0, -math.inf, self._clock()

    def failed(self, reason: str, began: float) -> None:
        """The endpoint did not answer, or said that it cannot.

        Args:
            reason: What it was.
            began: When the request was sent. One that was sent before the last answer says nothing new: of many requests,
                those that time out end together, after all the others.
        """
        with self._lock:
            if began >= self._alive:
                self.reason = reason
                self._failures += 1
                if self._most is not None and self._failures >= self._most:
                    self._until = self._clock() + self._seconds
