"""Signed notes (C2SP signed-note): a text and, below it, signatures with Ed25519.

Keys are written as Go's ``golang.org/x/mod/sumdb/note`` writes them, so its tools can check ours:

    PRIVATE+KEY+<name>+<id>+<base64 of 1 and the seed>     whoever has this can sign
    <name>+<id>+<base64 of 1 and the public key>           this is for everybody
"""

from base64 import b64decode, b64encode
from hashlib import sha256
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
PRIVATE = "PRIVATE+KEY+"
"""How a private key begins."""


class BadKey(ValueError):
    """A key cannot be read; the text says why, and never holds the key."""


class BadNote(ValueError):
    """A note is not in the form of signed notes, or no signature on it holds."""


class PublicKey(NamedTuple):
    """What checks a signature."""

    name: str
    raw: bytes

    @property
    def id(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return sha256(f"{self.name}\n".encode() + _ED25519 + self.raw).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(_ED25519 + self.raw).decode()}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the key that ``text`` says. Raises: BadKey."""
        name, id_, raw = _parts(text.strip())
        key = cls(name, raw)
        if key.id.hex() != id_:
            raise BadKey("the key's id is not that of its name and value")
        return key

    def check(self, note: str) -> str:
        """Return the text of ``note``, if a signature of this key on it holds. Raises: BadNote."""
        text, signatures = _split(note)
        for name, signature in signatures:
            if name == self.name and signature[:4] == self.id:
                try:
                    Ed25519PublicKey.from_public_bytes(self.raw).verify(
                        signature[4:], text.encode()
                    )
                except InvalidSignature:
                    raise BadNote("the signature does not hold") from None
                return text
        raise BadNote(f"it is not signed with the key {self.name}+{self.id.hex()}")


class PrivateKey(NamedTuple):
    """What makes a signature."""

    name: str
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        signer = Ed25519PrivateKey.from_private_bytes(self.seed)
        return PublicKey(self.name, signer.public_key().public_bytes_raw())

    @classmethod
    def new(cls, name: str) -> Self:
        """Return a new key. Raises: BadKey, when the name has a space or a plus."""
        if not name or "+" in name or any(letter.isspace() for letter in name):
            raise BadKey("a key's name must have no space and no +")
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the key that ``text`` says. Raises: BadKey."""
        text = text.strip()
        if not text.startswith(PRIVATE):
            raise BadKey("it is not a private key for signed notes")
        name, id_, seed = _parts(text.removeprefix(PRIVATE))
        key = cls(name, seed)
        if key.public.id.hex() != id_:
            raise BadKey("the key's id is not that of its name and value")
        return key

    def write(self) -> str:
        """Return the text that ``read`` reads."""
        encoded = b64encode(_ED25519 + self.seed).decode()
        return f"{PRIVATE}{self.name}+{self.public.id.hex()}+{encoded}\n"

    def sign(self, text: str) -> str:
        """Return a note: ``text``, which must end with a line feed, and a signature."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        encoded = b64encode(self.public.id + signature).decode()
        return f"{text}\n\N{EM DASH} {self.name} {encoded}\n"


def _parts(text: str) -> tuple[str, str, bytes]:
    """Return the name, the id and the 32 bytes of a key."""
    name, _, rest = text.partition("+")
    id_, _, encoded = rest.partition("+")
    try:
        raw = b64decode(encoded, validate=True)
    except ValueError:
        raise BadKey("it is not a key for signed notes") from None
    if not name or raw[:1] != _ED25519 or len(raw) != 33:
        raise BadKey("it is not an Ed25519 key for signed notes")
    return name, id_, raw[1:]


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a note's text and its signatures: (name of the key, its id and the signature)."""
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise BadNote("it is not a signed note")
    return text + "\n", [_signature(line) for line in lines[:-1].split("\n")]


def _signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    try:
        signature = b64decode(encoded, validate=True)
    except ValueError:
        raise BadNote("it is not a signed note") from None
    if dash != "\N{EM DASH}" or not name or len(signature) < 5:
        raise BadNote("it is not a signed note")
    return name, signature
