from __future__ import annotations

import pytest

from lading.http.patience import Patience, retry_after

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


def test_waits_double_with_jitter_up_to_the_longest() -> None:
    patience = Patience(first=1.0, longest=8.0)
    for failed, full in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 8.0)]:
        waits = {patience.wait(failed) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 1
