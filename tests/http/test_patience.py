from __future__ import annotations

import pytest

from lading.http.patience import Patience, asked_wait, limit_reset, retry_after

_NOON = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        (" 120 ", 120.0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("1000000000", 1e9),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str, seconds: float) -> None:
    assert retry_after(value, _NOON) == seconds


@pytest.mark.parametrize("value", [None, "", "-1", "soon", "1.5", "Tue, 99 Foo 2023"])
def test_a_senseless_retry_after_is_none(value: str | None) -> None:
    assert retry_after(value, _NOON) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"api";r=0;t=55', 55.0),
        ('"api" ; r=0 ; t=55 ', 55.0),
        ('"api";t=7;r=0;pk=:YQ==:', 7.0),
        ('"minute";r=0;t=20, "day";r=0;t=3600, "hour";r=5;t=9000', 3600.0),
        ('"a;r=0;t=9, b";r=0;t=3', 3.0),
        ("default;r=0;t=0", 0.0),
    ],
)
def test_an_exhausted_limit_says_when_it_begins_anew(value: str, seconds: float) -> None:
    assert limit_reset(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "x", '"api";r=12;t=55', '"api";r=0', '"api";t=55', '"r=0;t=5"'),
        *('"api";r=0;t=-5', '"api";r=0;t=soon', '"api";r=0;t=5.5', '"api";r=0;t=' + "9" * 400),
    ],
)
def test_a_limit_that_is_not_reached_or_makes_no_sense_is_none(value: str | None) -> None:
    assert limit_reset(value) is None


def test_a_retry_after_counts_before_a_limit() -> None:
    limit = {"RateLimit": '"api";r=0;t=55'}
    assert asked_wait({"Retry-After": "5", **limit}, _NOON) == 5
    assert asked_wait({"Retry-After": "soon", **limit}, _NOON) == 55
    assert asked_wait(limit, _NOON) == 55
    assert asked_wait({}, _NOON) is None


def test_waits_double_with_jitter_up_to_the_longest() -> None:
    patience = Patience(first=1.0, longest=8.0)
    for failed, full in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 8.0)]:
        waits = {patience.wait(failed) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 1
