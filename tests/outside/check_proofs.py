"""The log of a pack: the signed note with `cryptography`, the root and every
proof with `pymerkle`, and that facts and drill records are leaves of it.

    check_proofs.py PACK
"""

import base64
import json
import pathlib
import sys

from pymerkle import InmemoryTree

from found import Findings
from notes import key_of, leaf_hash, node_hash, open_note


def included(leaf, index, size, hashes):
    """The root to which an RFC 6962 inclusion proof leads (RFC 9162, 2.1.3.2)."""
    at, last, root = index, size - 1, leaf_hash(leaf)
    for sibling in hashes:
        if last == 0:
            raise ValueError("the proof is too long")
        if at % 2 == 1 or at == last:
            root = node_hash(sibling, root)
            while at % 2 == 0 and at != 0:
                at, last = at // 2, last // 2
        else:
            root = node_hash(root, sibling)
        at, last = at // 2, last // 2
    if last != 0:
        raise ValueError("the proof is too short")
    return root


def main():
    pack = pathlib.Path(sys.argv[1])
    findings = Findings("proofs")
    key = key_of((pack / "keys" / "evidence.vkey").read_text(encoding="utf-8"))
    leaves = (pack / "log" / "leaves.jsonl").read_bytes().split(b"\n")
    findings.expect(leaves.pop() == b"", "log/leaves.jsonl", "does not end with a line feed")
    try:
        _, size, root = open_note((pack / "log" / "checkpoint").read_text(encoding="utf-8"), key)
    except ValueError as error:
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
            _, size, signed = open_note(note, key)
            index = int(index.removeprefix("index "))
            hashes = [base64.b64decode(line, validate=True) for line in hashes]
            good = included(leaves[index], index, size, hashes) == signed
        except (ValueError, IndexError) as error:
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
