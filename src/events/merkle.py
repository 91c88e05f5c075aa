"""Merkle trees as RFC 6962 (section 2.1) hashes them: one hash over many, and short proofs.

Pure functions over hashes. ``leaves`` are leaf hashes, in order.
"""

from collections.abc import Sequence
from hashlib import sha256


class BadProof(ValueError):
    """The proof is not one for a tree of that size."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the hash of the tree; of no leaves, that of nothing."""
    if not leaves:
        return sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def _above(level: list[bytes]) -> list[bytes]:
    """Return the next level: pairs joined, and one left over goes up as it is."""
    pairs = zip(level[::2], level[1::2], strict=False)
    joined = [_node_hash(left, right) for left, right in pairs]
    return joined + level[-1:] if len(level) % 2 else joined


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the proof that the leaf at ``index`` is in the tree: its siblings, lowest first."""
    found = []
    level = list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            found.append(level[sibling])
        level = _above(level)
        index //= 2
    return found


def root_from(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the hash of the tree of ``size`` leaves in which ``leaf`` is at ``index``.

    As RFC 9162 (2.1.3.2) says.

    Raises:
        BadProof: there is no such place, or the proof is too long or too short for it.
    """
    if not 0 <= index < size:
        raise BadProof("there is no such leaf")
    at, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("it is too long")
        if at % 2 or at == last:
            result = _node_hash(sibling, result)
            while at and not at % 2:
                at, last = at // 2, last // 2
        else:
            result = _node_hash(result, sibling)
        at, last = at // 2, last // 2
    if last:
        raise BadProof("it is too short")
    return result
