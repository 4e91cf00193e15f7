"""What is kept stays below its limit."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rot180.web.cache import Cache


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), max_size=60),
    st.integers(0, 60),
)
def test_it_holds_the_last_that_fit(puts: list[tuple[int, int]], limit: int) -> None:
    cache: Cache[bytes] = Cache(limit, len)
    model: dict[int, bytes] = {}  # in the order of use
    for key, size in puts:
        value = bytes(size)
        assert cache.put(key, value) == value
        model.pop(key, None)
        if size <= limit:
            model[key] = value
        while sum(map(len, model.values())) > limit:
            del model[next(iter(model))]
        assert cache.held == sum(map(len, model.values())) <= limit
    assert {key for key in range(10) if key in cache} == set(model)
    assert all(cache.get(key) == value for key, value in model.items())


def test_what_was_asked_for_last_stays() -> None:
    cache: Cache[bytes] = Cache(20, len)
    cache.put("a", bytes(10))
    cache.put("b", bytes(10))
    cache.get("a")
    cache.put("c", bytes(10))
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)


def test_a_value_that_has_grown_is_measured_again() -> None:
    cache: Cache[list[int]] = Cache(10, len)
    value = [1]
    cache.put("a", value)
    cache.put("b", [1, 2])
    value.extend(range(9))
    cache.remeasure("a")
    assert cache.held == len(value) == 10
    assert "b" not in cache
    cache.remeasure("nothing")


def test_threads_share_it() -> None:
    cache: Cache[bytes] = Cache(1000, len)

    def work(start: int) -> None:
        for n in range(300):
            cache.get_or_make((start + n) % 37, lambda: bytes(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert cache.held == 50 * len(cache) <= 1000
