"""The log of a pack: the signed note with `cryptography`, the root and every
proof with `pymerkle`, and that facts and drill records are leaves of it.

    check_proofs.py PACK
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InmemoryTree

from found import Findings


def key_of(vkey):
    name, key_id, encoded = vkey.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    wanted = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex()
    if raw[0] != 1 or wanted != key_id:
        raise ValueError("not a verification key of Ed25519")
    return name, bytes.fromhex(key_id), Ed25519PublicKey.from_public_bytes(raw[1:])


def open_note(text, vkey):
    """Origin, size and root of a checkpoint that this key signed."""
    name, key_id, key = key_of(vkey)
    body, signatures = text.rsplit("\n\n", 1)
    body += "\n"
    for line in signatures.rstrip("\n").split("\n"):
        mark, signer, encoded = line.split(" ", 2)
        raw = base64.b64decode(encoded, validate=True)
        if mark == "\u2014" and signer == name and raw[:4] == key_id:
            key.verify(raw[4:], body.encode())
            origin, size, root = body.rstrip("\n").split("\n")
            return origin, int(size), base64.b64decode(root, validate=True)
    raise ValueError("the key has not signed it")


def leaf_hash(leaf):
    return hashlib.sha256(b"\x00" + leaf).digest()


def included(leaf, index, size, hashes):
    """The root to which an RFC 6962 inclusion proof leads (RFC 9162, 2.1.3.2)."""
    at, last, root = index, size - 1, leaf_hash(leaf)
    for sibling in hashes:
        if last == 0:
            raise ValueError("the proof is too long")
        if at % 2 == 1 or at == last:
            root = hashlib.sha256(b"\x01" + sibling + root).digest()
            while at % 2 == 0 and at != 0:
                at, last = at // 2, last // 2
        else:
            root = hashlib.sha256(b"\x01" + root + sibling).digest()
        at, last = at // 2, last // 2
    if last != 0:
        raise ValueError("the proof is too short")
    return root


def main():
    pack = pathlib.Path(sys.argv[1])
    findings = Findings("proofs")
    vkey = (pack / "keys" / "evidence.vkey").read_text(encoding="utf-8")
    leaves = (pack / "log" / "leaves.jsonl").read_bytes().split(b"\n")
    findings.expect(leaves.pop() == b"", "log/leaves.jsonl", "does not end with a line feed")
    try:
        _, size, root = open_note((pack / "log" / "checkpoint").read_text(encoding="utf-8"), vkey)
    except (InvalidSignature, ValueError) as error:
        findings.expect(False, "log/checkpoint", f"does not verify: {error!r}")
        findings.end()
    findings.expect(size == len(leaves), "log/leaves.jsonl", f"has {len(leaves)} leaves, {size} were signed")
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    findings.expect(tree.get_root() == root, "log/leaves.jsonl", "leads to another root than was signed")
    for path in sorted((pack / "log" / "proofs").glob("*.tlog-proof")):
        name = str(path.relative_to(pack))
        head, note = path.read_text(encoding="utf-8").split("\n\n", 1)
        magic, index, *hashes = head.split("\n")
        try:
            _, size, signed = open_note(note, vkey)
            index = int(index.removeprefix("index "))
            hashes = [base64.b64decode(line, validate=True) for line in hashes]
            good = included(leaves[index], index, size, hashes) == signed
        except (InvalidSignature, ValueError, IndexError) as error:
            findings.expect(False, name, f"does not verify: {error!r}")
            continue
        findings.expect(good and magic == "c2sp.org/tlog-proof@v1", name, "leads to another root")
        findings.expect(path.name == f"{index}.tlog-proof", name, "proves another leaf")
    noted = {json.loads(leaf)["resources"][0]["uid"] for leaf in leaves}
    for path in [pack / "facts" / "facts.dsse.json", *sorted((pack / "drills").glob("*.json"))]:
        statement = base64.b64decode(json.loads(path.read_bytes())["payload"])
        good = leaf_hash(statement).hex() in noted
        findings.expect(good, str(path.relative_to(pack)), "is noted in no leaf of the log")
    findings.end()


main()
