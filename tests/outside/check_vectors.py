"""Our vectors of notes and cosignatures against Python: the good ones verify
with `cryptography`, the bad ones do not, and a submission to a witness is
judged as `pymerkle` judges its proof.

    check_vectors.py DIRECTORY [CHECKPOINT WITNESS-KEY ...]

DIRECTORY is keys/vectors. A CHECKPOINT of a real deployment may follow, with
the keys of the witnesses that must have cosigned it.
"""

import base64
import pathlib
import sys

from found import Findings
from notes import WITNESS, cosigned, key_of, leaf_hash, node_hash, open_note


def fields(path):
    pairs = (line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: value.strip() for name, value in pairs}


def roots(proof, old, new):
    """Old and new root to which a consistency proof leads (RFC 9162, 2.1.4.2);
    the old tree is no perfect subtree here."""
    at, last = old - 1, new - 1
    while at % 2 == 1:
        at, last = at // 2, last // 2
    first = second = proof[0]
    for sibling in proof[1:]:
        if at % 2 == 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while at % 2 == 0 and at != 0:
                at, last = at // 2, last // 2
        else:
            second = node_hash(second, sibling)
        at, last = at // 2, last // 2
    return first, second


def checkpoint(vector):
    origin, size, root = open_note(bytes.fromhex(vector["note"]).decode(), key_of(vector["vkey"]))
    return f"{origin} {size} {root.hex()}"


def cosignature(vector):
    return str(cosigned(bytes.fromhex(vector["note"]).decode(), key_of(vector["vkey"], WITNESS)))


def submission(vector):
    head, note = bytes.fromhex(vector["body"]).decode().split("\n\n", 1)
    old, *lines = head.split("\n")
    origin, size, root = open_note(note, key_of(vector["vkey"]))
    if old != f"old {vector['known-size']}":
        raise ValueError("from another state")
    proof = [base64.b64decode(line, validate=True) for line in lines]
    first, second = roots(proof, int(vector["known-size"]), size)
    if (first.hex(), second) != (vector["known-root"], root):
        raise ValueError("does not extend what is known")
    return f"{origin} {size} {root.hex()}"


CHECKS = {"open-checkpoint": checkpoint, "verify-cosignature": cosignature, "judge-submission": submission}


def main():
    findings = Findings("vectors")
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.txt")):
        vector = fields(path)
        check = CHECKS.get(vector["operation"])
        if check is None:
            continue
        try:
            found = "ok " + check(vector).encode().hex()
        except ValueError as error:
            found = f"error {error}"
        same = found == vector["expect"] if vector["expect"].startswith("ok") else found.startswith("error")
        findings.expect(same, path.name, f"{found}, not {vector['expect']}")
    # The root over leaves that anybody can make: eleven of one byte each.
    leaves = [leaf_hash(bytes([n])) for n in range(11)]
    while len(leaves) > 1:
        pairs = [node_hash(*leaves[at : at + 2]) for at in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(pairs) * 2 :]
    good = fields(pathlib.Path(sys.argv[1]) / "submission.txt")["expect"].removeprefix("ok ")
    findings.expect(bytes.fromhex(good).decode().endswith(leaves[0].hex()), "submission.txt", "has another root")
    if len(sys.argv) > 2:
        text = pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")
        for vkey in sys.argv[3:]:
            try:
                cosigned(text, key_of(vkey, WITNESS))
                findings.expect(True, sys.argv[2], "")
            except ValueError as error:
                findings.expect(False, sys.argv[2], str(error))
    findings.end()


main()
