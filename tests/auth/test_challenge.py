from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lading.auth.challenge import Challenge, parse


def test_commas_inside_quotes_belong_to_the_value() -> None:
    header = 'Bearer realm="https://auth.acme.io/token",service="registry",scope="repository:x:pull,push"'
    assert parse([header]) == [
        Challenge(
            "bearer",
            {"realm": "https://auth.acme.io/token", "service": "registry", "scope": "repository:x:pull,push"},
        )
    ]


def test_several_challenges_in_one_header_and_in_several() -> None:
    both = 'Basic realm="a, b", Bearer realm=https-less, error="x\\"y\\\\"'
    assert parse([both, "Negotiate", "NTLM TlRMTVNTUAAB=", "Basic REALM = x"]) == [
        Challenge("basic", {"realm": "a, b"}),
        Challenge("bearer", {"realm": "https-less", "error": 'x"y\\'}),
        Challenge("negotiate", {}),
        Challenge("ntlm", {}),
        Challenge("basic", {"realm": "x"}),
    ]


def test_a_scheme_without_parameters_stands_before_one_with_them() -> None:
    assert parse(['Negotiate, Basic realm="x"']) == [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})]


def test_the_first_of_a_repeated_parameter_counts() -> None:
    [challenge] = parse(['Bearer realm="https://a/", realm="https://b/"'])
    assert challenge.parameters["realm"] == "https://a/"


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for challenge in parse([text, f"Bearer {text}", f'Bearer realm="{text}']):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(st.characters(codec="ascii", exclude_categories=["Cc"]))
    )
)
def test_what_is_quoted_by_the_grammar_is_read_back(parameters: dict[str, str]) -> None:
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()}
    header = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in quoted.items())
    assert parse([header]) == [Challenge("bearer", parameters)]
