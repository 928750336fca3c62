"""Every signature of a pack, with `cryptography`, and those of the OSCAL files
also with `trestle verify`.

    check_signatures.py PACK
"""

import base64
import hashlib
import json
import pathlib
import subprocess
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from found import Findings

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def payload_of(path, key):
    """The statement in an envelope that this key signed."""
    envelope = json.loads(path.read_bytes())
    if envelope["payloadType"] != PAYLOAD_TYPE or len(envelope["signatures"]) != 1:
        raise ValueError("not one signature over an in-toto statement")
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = PAYLOAD_TYPE.encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"], validate=True), signed)
    return json.loads(payload)


def main():
    pack = pathlib.Path(sys.argv[1])
    findings = Findings("signatures")
    pem = pack / "keys" / "evidence.pem"
    key = load_pem_public_key(pem.read_bytes())
    envelopes = sorted(pack.rglob("*.dsse.json")) + sorted((pack / "drills").glob("*.json"))
    for path in envelopes:
        name = str(path.relative_to(pack))
        try:
            statement = payload_of(path, key)
        except (InvalidSignature, ValueError, KeyError) as error:
            findings.expect(False, name, f"does not verify: {error!r}")
            continue
        findings.expect(statement["_type"] == "https://in-toto.io/Statement/v1", name, "is no statement")
        beside = path.with_name(path.name.replace(".dsse.json", ".json"))
        if beside != path and beside.exists():
            digest = hashlib.sha256(beside.read_bytes()).hexdigest()
            said = statement["subject"][0]["digest"]["sha256"]
            findings.expect(digest == said, str(beside.relative_to(pack)), "is not what was signed")
    trestle = pathlib.Path(sys.executable).with_name("trestle")
    for path in sorted((pack / "reports" / "oscal").glob("*.dsse.json")):
        document = path.with_name(path.name.replace(".dsse.json", ".json"))
        command = [trestle, "verify", "--beta", "-f", document, "--signature", path, "--public-key", pem]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (run.stderr or run.stdout).strip()
        findings.expect(run.returncode == 0, str(document.relative_to(pack)), f"trestle verify: {said}")
    findings.end()


main()
