"""Signed notes are those of C2SP: another implementation's example holds, and no other does."""

import pytest

from mcp_server.evidence.note import BadKey, BadNote, PrivateKey, PublicKey

# The example of golang.org/x/mod/sumdb/note.
PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NOTE = (
    TEXT + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
    "dngotpRZb6KE6RyyBwJnAM=\n"
)


def test_we_sign_as_go_does() -> None:
    key = PrivateKey.read(PRIVATE)
    assert key.sign(TEXT) == NOTE
    assert str(key.public) == PUBLIC
    assert key.write().strip() == PRIVATE


def test_a_signature_holds_for_its_text() -> None:
    assert PublicKey.read(PUBLIC).check(NOTE) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(NOTE.replace("answer", "anwser"), id="another text"),
        pytest.param(NOTE.replace("x08go/Z", "x08go/a"), id="another signature"),
        pytest.param(NOTE.replace("x08go/Z", "y08go/Z"), id="another key's id"),
        pytest.param(NOTE.replace("— P", "— Q"), id="another key's name"),
        pytest.param(NOTE.replace("—", "-"), id="no dash"),
        pytest.param(NOTE[:-1], id="no line feed at the end"),
        pytest.param(NOTE.replace("=", "!"), id="no base64"),
        pytest.param(NOTE.replace("=", "\u00fc"), id="not ASCII"),
        pytest.param(TEXT, id="no signature"),
        pytest.param("", id="nothing"),
    ],
)
def test_any_other_note_does_not(note: str) -> None:
    with pytest.raises(BadNote):
        PublicKey.read(PUBLIC).check(note)


@pytest.mark.parametrize(
    "text",
    ["", "x", "a+b+c", PUBLIC[:-1], PUBLIC.replace("c74f", "c74e"), PUBLIC.replace("W", "ü")],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadKey):
        PublicKey.read(text)


@pytest.mark.parametrize("text", ["", PUBLIC, PRIVATE[:-1], PRIVATE.replace("c74f", "c74e")])
def test_what_is_no_private_key_is_refused(text: str) -> None:
    with pytest.raises(BadKey) as refusal:
        PrivateKey.read(text)
    assert "AYEK" not in str(refusal.value)


def test_a_new_key_signs() -> None:
    key = PrivateKey.new("example.org/tasktrail")
    again = PrivateKey.read(key.write())
    assert PublicKey.read(str(key.public)).check(again.sign("x\n")) == "x\n"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_a_keys_name_is_one_word(name: str) -> None:
    with pytest.raises(BadKey):
        PrivateKey.new(name)
