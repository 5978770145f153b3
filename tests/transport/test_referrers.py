"""What refers to a manifest: with the real registry, which has no API for it, and with servers that have one."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, LadingError, NetworkError, NotFoundError, PolicyError
from lading.manifest import Descriptor, Index, Manifest, encode, parse_document
from lading.transport.referrers import list_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.auth import Credential
    from lading.transport.registry import Registry

EMPTY = b"{}"
CONFIG = Descriptor.of(EMPTY, media.OCI_EMPTY)
SIGNATURE, BILL = "application/vnd.example.signature", "application/vnd.example.sbom+json"


def _subject(title: str = "model") -> Manifest:
    return Manifest.build(CONFIG, (), artifact_type="x/model", annotations={"title": title})


def _referrer(subject: Manifest, kind: str = SIGNATURE, **annotations: str) -> Manifest:
    return Manifest.build(CONFIG, (), artifact_type=kind, annotations=annotations, subject=subject.descriptor)


@pytest.fixture
def team(plain_registry: Any, connect: Any, memory: Any) -> Registry:
    """A repository of the real registry that holds the empty config."""
    repository: Registry = connect(plain_registry.host, f"team/{uuid.uuid4().hex[:12]}")
    repository.put_blob(CONFIG, memory(EMPTY), lambda _done: None)
    return repository


def _listed(registry: Registry, subject: Manifest) -> list[str]:
    document = registry.document(list_tag(subject.digest))
    assert isinstance(document, Index)
    return [one.digest for one in document.manifests]


def test_nothing_refers_to_a_manifest_at_first(team: Registry) -> None:
    assert team.referrers(_subject().digest) == ()
    team.put_document(_subject(), "1")
    assert team.referrers(_subject().digest) == ()


def test_what_refers_to_a_manifest_is_listed_with_type_and_annotations(team: Registry) -> None:
    subject = _subject()
    team.put_document(subject, "1")
    signature, bill = _referrer(subject, by="anna"), _referrer(subject, BILL)
    for document in (signature, bill, signature):
        team.put_document(document, None)
    found = team.referrers(subject.digest)
    assert [one.digest for one in found] == [signature.digest, bill.digest]
    assert (found[0].artifact_type, found[0].annotations) == (SIGNATURE, {"by": "anna"})
    assert (found[0].media_type, found[0].size) == (media.OCI_MANIFEST, len(signature.raw))
    assert [one.digest for one in team.referrers(subject.digest, BILL)] == [bill.digest]
    assert team.referrers(subject.digest, "x/other") == ()


def test_the_list_is_an_index_that_other_tools_read(team: Registry) -> None:
    skopeo = shutil.which("skopeo")
    assert skopeo is not None, "skopeo is missing: apt-get install skopeo"
    signature = _referrer(_subject())
    team.put_document(signature, None)
    place = f"docker://{team.host}/{team.repository}:{list_tag(_subject().digest)}"
    done = subprocess.run(
        [skopeo, "inspect", "--raw", "--tls-verify=false", place], capture_output=True, text=True, check=True
    )
    index = json.loads(done.stdout)
    assert index["mediaType"] == media.OCI_INDEX
    assert [(one["digest"], one["artifactType"]) for one in index["manifests"]] == [(signature.digest, SIGNATURE)]


def test_a_referrer_may_come_before_its_subject(team: Registry) -> None:
    signature = _referrer(_subject())
    team.put_document(signature, "signature")
    assert [one.digest for one in team.referrers(_subject().digest)] == [signature.digest]


def test_a_referrer_without_a_type_of_its_own_has_its_configs(team: Registry) -> None:
    subject = _subject()
    team.put_document(Manifest.build(CONFIG, (), subject=subject.descriptor), None)
    assert [one.artifact_type for one in team.referrers(subject.digest)] == [media.OCI_EMPTY]


def test_an_index_may_refer_to_a_manifest(team: Registry) -> None:
    subject = _subject()
    tree = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "artifactType": BILL, "manifests": []}
    tree["subject"] = json.loads(encode(subject.descriptor))
    index = parse_document(json.dumps(tree).encode(), name="x")
    team.put_document(index, None)
    [found] = team.referrers(subject.digest)
    assert (found.digest, found.media_type, found.artifact_type) == (index.digest, media.OCI_INDEX, BILL)


def test_a_deleted_referrer_leaves_the_list(team: Registry) -> None:
    subject = _subject()
    team.put_document(subject, "1")
    signature, bill = _referrer(subject), _referrer(subject, BILL)
    for document in (signature, bill):
        team.put_document(document, None)
    team.delete(signature.digest)
    assert _listed(team, subject) == [bill.digest]
    team.delete(bill.digest)
    assert team.referrers(subject.digest) == ()
    with pytest.raises(NotFoundError):
        team.delete(bill.digest)


def test_a_list_with_entries_that_others_deleted_can_still_be_added_to(team: Registry) -> None:
    subject = _subject()
    gone, added = _referrer(subject, by="gone"), _referrer(subject, by="added")
    team.put_document(gone, None)
    # As a client does that knows nothing of lists: only the manifest goes.
    with team.send("DELETE", f"/v2/{team.repository}/manifests/{gone.digest}") as response:
        assert response.status == 202
    team.put_document(added, None)
    assert _listed(team, subject) == [added.digest]


def test_what_other_clients_wrote_into_a_list_is_kept(team: Registry) -> None:
    subject = _subject()
    theirs, ours = _referrer(subject, by="them"), _referrer(subject, by="us")
    team.put_document(Manifest.build(CONFIG, (), artifact_type=SIGNATURE, annotations={"by": "them"}), None)
    team.put_document(theirs, None)
    document = team.document(list_tag(subject.digest))
    tree = json.loads(document.raw)
    tree["annotations"] = {"kept": "by them"}
    tree["manifests"][0]["urls"] = ["https://example.test/x"]
    team.put_document(parse_document(json.dumps(tree).encode(), name="x"), list_tag(subject.digest))
    team.put_document(ours, None)
    after = json.loads(team.document(list_tag(subject.digest)).raw)
    assert after["annotations"] == {"kept": "by them"}
    assert after["manifests"][0] == tree["manifests"][0]
    assert [one["digest"] for one in after["manifests"]] == [theirs.digest, ours.digest]


def test_a_deleted_manifest_is_gone_with_its_tags(team: Registry) -> None:
    subject = _subject()
    team.put_document(subject, "1")
    team.delete(subject.digest)
    with pytest.raises(NotFoundError):
        team.document("1")


def test_a_registry_that_deletes_no_tags_says_so_and_keeps_them(team: Registry) -> None:
    subject = _subject()
    team.put_document(subject, "1")
    with pytest.raises(PolicyError, match="deletes no tags") as caught:
        team.delete("1")
    assert subject.digest in caught.value.hint
    assert team.document("1") == subject


def test_a_registry_where_deletion_is_switched_off_says_so(start: Any, connect: Any, memory: Any) -> None:
    repository = connect(start(deletes=False).host, "team/kept")
    repository.put_blob(CONFIG, memory(EMPTY), lambda _done: None)
    subject = _subject()
    repository.put_document(subject, "1")
    for name in ("1", subject.digest):
        with pytest.raises(PolicyError, match=r"does not delete .* \(405\)") as caught:
            repository.delete(name)
        assert "operator" in caught.value.hint
    assert repository.document("1") == subject


def test_the_right_to_delete_is_asked_for(token_registry: Any, connect: Any, memory: Any, login: Credential) -> None:
    repository = connect(token_registry.host, "team/x", login=login)
    repository.put_blob(CONFIG, memory(EMPTY), lambda _done: None)
    subject = _subject()
    repository.put_document(subject, "1")
    repository.delete(subject.digest)
    assert ("repository:team/x:pull,push,delete",) in token_registry.tokens


# Against servers of another kind than the real one.

SUBJECT = _subject()
ONE, TWO = _referrer(SUBJECT, by="one"), _referrer(SUBJECT, BILL, by="two")
API = f"/v2/chat/referrers/{SUBJECT.digest}"
LIST = f"/v2/chat/manifests/{list_tag(SUBJECT.digest)}"


@pytest.fixture
def chat(hostile: Any, connect: Any) -> Registry:
    registry: Registry = connect(hostile.host, "chat")
    return registry


def _index(*documents: Manifest) -> bytes:
    entries = []
    for one in documents:
        described = json.loads(encode(one.descriptor))
        entries.append({**described, "annotations": dict(one.annotations)})
    return json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}).encode()


@pytest.fixture
def accept(hostile: Any, reply: Any) -> Callable[..., None]:
    """Let the server take a manifest."""

    def make(document: Manifest, **headers: str) -> None:
        hostile.on("PUT", f"/v2/chat/manifests/{document.digest}", reply(201, headers=headers))

    return make


def test_a_registry_with_the_api_is_asked_and_followed_over_pages(hostile: Any, reply: Any, chat: Registry) -> None:
    link = {"Link": f'<{API}?page=2>; rel="next"', "Content-Type": media.OCI_INDEX}
    pages = (reply(body=_index(ONE), headers=link), reply(body=_index(ONE, TWO)))
    hostile.on("GET", API, *pages)
    assert [one.digest for one in chat.referrers(SUBJECT.digest)] == [ONE.digest, TWO.digest]
    assert [asked.target for asked in hostile.asked if asked.path == API] == [API, f"{API}?page=2"]
    assert all(asked.path != LIST for asked in hostile.asked)


def test_a_type_is_asked_for_and_filtered_here_where_the_registry_does_not(
    hostile: Any, reply: Any, chat: Registry
) -> None:
    hostile.on("GET", API, reply(body=_index(ONE, TWO)))
    assert [one.digest for one in chat.referrers(SUBJECT.digest, BILL)] == [TWO.digest]
    assert hostile.asked[-1].target.endswith("?artifactType=application%2Fvnd.example.sbom%2Bjson")


def test_a_registry_that_lists_subjects_itself_is_left_alone(
    hostile: Any, chat: Registry, accept: Callable[..., None]
) -> None:
    accept(ONE, **{"OCI-Subject": SUBJECT.digest})
    chat.put_document(ONE, None)
    assert [asked.method for asked in hostile.asked if "manifests" in asked.path] == ["PUT"]


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_every_way_to_know_no_api_leads_to_the_list(hostile: Any, reply: Any, chat: Registry, status: int) -> None:
    hostile.on("GET", API, reply(status))
    hostile.on("GET", LIST, reply(body=_index(ONE)))
    assert [one.digest for one in chat.referrers(SUBJECT.digest)] == [ONE.digest]


def test_a_page_for_people_at_the_apis_place_is_no_list(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", API, reply(body=b"<html>", headers={"Content-Type": "text/html"}))
    hostile.on("GET", LIST, reply(body=_index(ONE)))
    assert [one.digest for one in chat.referrers(SUBJECT.digest)] == [ONE.digest]


def test_a_failing_api_is_not_taken_for_none(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", API, reply(503))
    with pytest.raises(NetworkError, match="what refers to"):
        chat.referrers(SUBJECT.digest)
    assert all(asked.path != LIST for asked in hostile.asked)


def test_an_endless_list_is_given_up(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", API, reply(body=_index(ONE), headers={"Link": f'<{API}>; rel="next"'}))
    with pytest.raises(NetworkError, match="without end"):
        chat.referrers(SUBJECT.digest)


@pytest.mark.parametrize("body", [b"", b"[]", ONE.raw, b'{"schemaVersion":2,"manifests":[{"digest":"x"}]}'])
def test_what_is_no_list_is_refused_and_not_overwritten(
    hostile: Any, reply: Any, chat: Registry, accept: Callable[..., None], body: bytes
) -> None:
    accept(ONE)
    hostile.on("GET", LIST, reply(body=body))
    with pytest.raises(FormatError):
        chat.referrers(SUBJECT.digest)
    with pytest.raises(FormatError):
        chat.put_document(ONE, None)
    assert all(asked.path != LIST for asked in hostile.asked if asked.method == "PUT")


class Racing:
    """A registry's tag that another client overwrites with what it had read before, a number of times."""

    def __init__(self, reply: Any, times: int) -> None:
        self.raw: bytes | None = None
        self._reply = reply
        self._times = times

    def get(self, _asked: Any) -> Any:
        return self._reply(404) if self.raw is None else self._reply(body=self.raw, headers={"ETag": '"now"'})

    def put(self, asked: Any) -> Any:
        self.raw = asked.body
        if self._times:
            self._times -= 1
            self.raw = _index(TWO)
        return self._reply(201)


@pytest.mark.parametrize("times", [1, 2, 1000])
def test_a_list_that_another_writer_overwrote_is_written_again(
    hostile: Any, reply: Any, chat: Registry, accept: Callable[..., None], times: int
) -> None:
    accept(ONE)
    racing = Racing(reply, times)
    hostile.on("GET", LIST, racing.get)
    hostile.on("PUT", LIST, racing.put)
    if times == 1000:
        with pytest.raises(NetworkError, match="keep overwriting"):
            chat.put_document(ONE, None)
        return
    chat.put_document(ONE, None)
    assert racing.raw is not None
    assert [one["digest"] for one in json.loads(racing.raw)["manifests"]] == [TWO.digest, ONE.digest]


def test_a_list_is_written_only_over_what_was_read_where_the_registry_can_tell(
    hostile: Any, reply: Any, chat: Registry, accept: Callable[..., None]
) -> None:
    accept(ONE)
    tagged = {"ETag": '"first"'}
    full = reply(body=_index(TWO, ONE), headers={"ETag": '"third"'})
    hostile.on(
        "GET", LIST, reply(body=_index(), headers=tagged), reply(body=_index(TWO), headers={"ETag": '"2"'}), full
    )
    hostile.on("PUT", LIST, reply(412), reply(201))
    chat.put_document(ONE, None)
    puts = [asked for asked in hostile.asked if asked.path == LIST and asked.method == "PUT"]
    assert [asked.headers["If-Match"] for asked in puts] == ['"first"', '"2"']
    assert [one["digest"] for one in json.loads(puts[-1].body)["manifests"]] == [TWO.digest, ONE.digest]


def test_a_list_that_is_refused_is_said_to_be(
    hostile: Any, reply: Any, chat: Registry, accept: Callable[..., None]
) -> None:
    accept(ONE)
    hostile.on("PUT", LIST, reply(400))
    with pytest.raises(LadingError, match="refuses the list") as caught:
        chat.put_document(ONE, None)
    assert "was pushed" in caught.value.hint


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        (Digest("sha256:" + "ab" * 32), "sha256-" + "ab" * 32),
        (Digest("sha512:" + "cd" * 64), "sha512-" + "cd" * 32),
    ],
)
def test_a_lists_tag_is_the_digest_cut_to_64_digits(digest: Digest, tag: str) -> None:
    assert list_tag(digest) == tag
