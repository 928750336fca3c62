#!/usr/bin/env python3
"""Checks an export of a Coffer log with other people's programs only.

    check_export.py DIR KEY [PROOF.tlog-proof ...] [--kept CHECKPOINT]

DIR is what `coffer audit export` wrote, KEY the log's key (name+hash+base64)
from a recovery kit. `cryptography` checks the signature of the checkpoint,
`pymerkle` computes the root over the leaves and every proof anew. Exit code 0
if all is well, 1 with the name of what is not.
"""

import argparse
import base64
import json
import pathlib
import sys

from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

from notes import BadNote, key_of, leaf_hash, open_note


class Wrong(Exception):
    """What is wrong, beginning with the item's name."""


def opened(item, text, key):
    """Origin, size and root of a checkpoint that the key signed."""
    try:
        origin, size, root = open_note(text, key)
    except BadNote as bad:
        raise Wrong(f"{item}: {bad}") from None
    if not origin.startswith(key[0] + "/log/"):
        raise Wrong(f"{item}: is of {origin}")
    return origin, size, root


def number(tile):
    """A tile's number as path elements."""
    text = f"{tile % 1000:03}"
    while tile >= 1000:
        tile //= 1000
        text = f"x{tile % 1000:03}/{text}"
    return text


def leaves_of(directory, size):
    """The leaves of every bundle, each held against its tile of hashes."""
    for tile in range((size + 255) // 256):
        width = min(256, size - tile * 256)
        part = "" if width == 256 else f".p/{width}"
        name = f"tile/entries/{number(tile)}{part}"
        bundle = (directory / name).read_bytes()
        hashes = (directory / f"tile/0/{number(tile)}{part}").read_bytes()
        at = 0
        for place in range(width):
            index = tile * 256 + place
            length = int.from_bytes(bundle[at : at + 2], "big")
            leaf = bundle[at + 2 : at + 2 + length]
            at += 2 + length
            if leaf_hash(leaf) != hashes[place * 32 : place * 32 + 32]:
                raise Wrong(f"leaf {index}: its hash is not that in its tile")
            value = json.loads(leaf)
            canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            if canonical.encode() != leaf:
                raise Wrong(f"leaf {index}: not canonical JSON")
            yield leaf
        if at != len(bundle) or len(hashes) != width * 32:
            raise Wrong(f"{name}: has more than its {width} entries, or its tile has")


def check_proof(path, tree, leaves, key):
    """Our proof of one leaf, held against the one that pymerkle makes."""
    head, separator, note = path.read_text().partition("\n\n")
    lines = head.splitlines()
    if not separator or lines[0] != "c2sp.org/tlog-proof@v1":
        raise Wrong(f"{path.name}: not a tlog-proof")
    leaf = base64.b64decode(lines[1].removeprefix("extra "), validate=True)
    index = int(lines[2].removeprefix("index "))
    hashes = [base64.b64decode(line, validate=True) for line in lines[3:]]
    _, size, root = opened(path.name, note, key)
    if size > len(leaves):
        raise Wrong(f"{path.name}: is of a later state of the log, with {size} leaves")
    if index >= size or leaves[index] != leaf:
        raise Wrong(f"{path.name}: leaf {index} of the export is another one")
    proof = tree.prove_inclusion(index + 1, size)
    theirs = [bytes.fromhex(digest) for digest in proof.serialize()["path"]]
    if theirs != [leaf_hash(leaf), *hashes]:
        raise Wrong(f"{path.name}: pymerkle makes another proof of leaf {index}")
    verify_inclusion(theirs[0], root, proof)


def check(arguments):
    key = key_of(arguments.key)
    directory = arguments.directory
    origin, size, root = opened("checkpoint", (directory / "checkpoint").read_text(), key)
    tree = InmemoryTree(algorithm="sha256")
    leaves = []
    for leaf in leaves_of(directory, size):
        tree.append_entry(leaf)
        leaves.append(leaf)
    if tree.get_root() != root:
        raise Wrong("checkpoint: pymerkle computes another root over the leaves")
    for index in sorted({0, size // 3, size // 2, size - 1}):
        proof = tree.prove_inclusion(index + 1, size)
        verify_inclusion(leaf_hash(leaves[index]), root, proof)
    for proof in arguments.proofs:
        check_proof(proof, tree, leaves, key)
    if arguments.kept:
        kept_origin, kept_size, kept_root = opened("kept checkpoint", arguments.kept.read_text(), key)
        if kept_origin != origin or kept_size > size or tree.get_root(kept_size) != kept_root:
            raise Wrong("checkpoint: does not extend the one that was kept")
        verify_consistency(kept_root, root, tree.prove_consistency(kept_size, size))
    print(f"{origin}: {size} leaves and {len(arguments.proofs)} proofs as they were signed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("key")
    parser.add_argument("proofs", nargs="*", type=pathlib.Path)
    parser.add_argument("--kept", type=pathlib.Path)
    try:
        check(parser.parse_args())
    except Wrong as wrong:
        sys.exit(str(wrong))
    except (OSError, ValueError, IndexError) as error:
        sys.exit(f"{getattr(error, 'filename', None) or 'the export'}: {error}")


if __name__ == "__main__":
    main()
