import math

from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.hosted.limits import Breaker, Pace


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def reserved(per_minute, pauses):
    """When each place was asked for, and how long it is until then."""
    clock = Clock()
    pace = Pace(per_minute, clock)
    for pause in pauses:
        clock.now += pause
        yield clock.now, pace.reserve()


@given(st.integers(1, 5), st.lists(st.floats(0, 40), min_size=1, max_size=60))
def test_no_minute_has_more_than_so_many(per_minute, pauses):
    times = [asked + wait for asked, wait in reserved(per_minute, pauses)]
    assert times == sorted(times)
    for first, later in zip(times, times[per_minute:]):  # noqa: B905 - the second is shorter
        assert later - first >= 60 - 1e-6


@given(st.integers(1, 5), st.lists(st.floats(0, 40), min_size=1, max_size=30))
def test_nobody_waits_without_need(per_minute, pauses):
    times = []
    for asked, wait in reserved(per_minute, pauses):
        recent = [time for time in times if time > asked - 60]
        assert (wait == 0) == (len(recent) < per_minute)
        times.append(asked + wait)


def test_a_place_that_comes_too_late_is_not_taken():
    clock = Clock()
    pace = Pace(1, clock)
    assert pace.reserve() == 0
    assert pace.reserve(latest=30) == 60
    assert pace.reserve(latest=60) == 60
    assert pace.reserve(latest=200) == 120


def test_no_limit():
    assert {Pace(None).reserve() for _ in range(1000)} == {0.0}


def test_the_breaker_opens_tries_again_and_closes():
    clock = Clock()
    breaker = Breaker(3, 10, clock)
    for _ in range(2):
        breaker.failed("gone", clock.now)
    assert breaker.closed_for() == 0
    breaker.alive()
    for _ in range(3):
        breaker.failed("gone", clock.now)
    assert breaker.closed_for() == 10
    clock.now = 4
    assert breaker.closed_for() == 6
    clock.now = 10
    assert breaker.closed_for() == 0
    breaker.failed("still gone", clock.now)
    assert breaker.closed_for() == 10, "one more is enough"
    assert breaker.reason == "still gone"
    clock.now = 20
    breaker.alive()
    breaker.failed("gone", clock.now)
    assert breaker.closed_for() == 0


def test_failures_of_before_the_last_answer_say_nothing_new():
    """Of many requests at the same time those that time out end last, and together."""
    clock = Clock()
    breaker = Breaker(2, 10, clock)
    clock.now = 5
    breaker.alive()
    for _ in range(9):
        breaker.failed("slow", 4.9)
    assert breaker.closed_for() == 0
    for _ in range(2):
        breaker.failed("slow", 5)
    assert breaker.closed_for() == 10


def test_no_breaker():
    breaker = Breaker(None, 10)
    for _ in range(100):
        breaker.failed("gone", math.inf)
    assert breaker.closed_for() == 0
