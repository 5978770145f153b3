from __future__ import annotations

import pytest

from lading.http.validator import shown, validator

MORNING, NOON = "Tue, 14 Nov 2023 08:00:00 GMT", "Tue, 14 Nov 2023 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ETag": '"one"'}, '"one"'),
        ({"ETag": '"one"', "Last-Modified": MORNING, "Date": NOON}, '"one"'),
        ({"ETag": 'W/"one"'}, ""),
        ({"ETag": 'W/"one"', "Last-Modified": MORNING, "Date": NOON}, MORNING),
        ({"Last-Modified": MORNING, "Date": NOON}, MORNING),
        ({"Last-Modified": MORNING}, ""),
        ({"Last-Modified": "Tue, 14 Nov 2023 11:59:30 GMT", "Date": NOON}, ""),
        ({"Last-Modified": NOON, "Date": MORNING}, ""),
        ({"Last-Modified": "this morning", "Date": NOON}, ""),
        ({"Last-Modified": "Tue, 14 Nov 2023 08:00:00 -0000", "Date": NOON}, ""),
        ({}, ""),
    ],
)
def test_only_what_changes_with_every_byte_tells_a_version(headers: dict[str, str], expected: str) -> None:
    assert validator(headers) == expected
    if expected:
        assert shown(headers, expected) == expected
    assert shown(headers, '"another"') == headers.get("ETag", "")
