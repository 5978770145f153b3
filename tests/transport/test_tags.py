from __future__ import annotations

import pytest

from lading.transport.tags import next_page, told

URL = "https://a.io/v2/x/tags/list"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ('</v2/x/tags/list?n=2&last=b>; rel="next"', "https://a.io/v2/x/tags/list?n=2&last=b"),
        ("<https://a.io/next>; rel=next", "https://a.io/next"),
        ('<?last=c>; title="x"; rel="next"', "https://a.io/v2/x/tags/list?last=c"),
        ('</prev>; rel="prev", </next>; rel="next"', "https://a.io/next"),
        ('</prev>; rel="prev"', None),
        ('</x>; rel="nextish"', None),
        ("junk", None),
        ("", None),
    ],
)
def test_the_next_page_is_the_link_called_next(link: str, expected: str | None) -> None:
    assert next_page([link], URL) == expected


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ([], "none"),
        (["1"], "1"),
        (["2", "1"], "1 and 2"),
        (["10", "9", "1"], "1, 9 and 10"),
        (["v10", "v9", "latest", "v1"], "latest, v1, v9 and 1 more"),
    ],
)
def test_tags_are_told_in_a_sentence(tags: list[str], sentence: str) -> None:
    assert told(tags) == sentence
