"""Merkle trees hash as RFC 6962 says, and a proof holds for its leaf and for nothing else."""

import pytest

from events.merkle import BadProof, leaf_hash, path, root, root_from

# The reference inputs and roots of the Certificate Transparency implementations.
INPUTS = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_reference_roots(size: int) -> None:
    assert root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert root([]).hex().startswith("e3b0c44298fc1c149afbf4c8996fb924")


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 100])
def test_every_leaf_has_a_proof_and_it_fits_no_other_place(size: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(size)]
    whole = root(leaves)
    for index in range(size):
        proof = path(leaves, index)
        assert root_from(leaves[index], index, size, proof) == whole
        assert root_from(leaf_hash(b"other"), index, size, proof) != whole
        for other in range(size):
            if other != index:
                assert not fits(leaves[index], other, size, proof, whole)
        for changed in ([*proof, whole], proof[:-1], [*proof[:-1], whole]):
            if changed != proof:
                assert not fits(leaves[index], index, size, changed, whole)


def fits(leaf: bytes, index: int, size: int, proof: list[bytes], whole: bytes) -> bool:
    try:
        return root_from(leaf, index, size, proof) == whole
    except BadProof:
        return False


@pytest.mark.parametrize("place", [(0, 0), (-1, 4), (4, 4)])
def test_a_place_that_is_not_in_the_tree_is_refused(place: tuple[int, int]) -> None:
    with pytest.raises(BadProof):
        root_from(LEAVES[0], *place, [])
