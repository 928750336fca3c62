"""C2SP signed notes for the other checkers: keys, checkpoints, cosignatures.

Signatures with PyPI `cryptography`; everything else as the specifications
signed-note, tlog-checkpoint and tlog-cosignature say.
"""

import base64
import hashlib
import re
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS = 1, 4


class BadNote(ValueError):
    """What is wrong with a key or a note."""


def key_id(name, kind, raw):
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + raw).digest()[:4]


def key_of(vkey, kind=LOG):
    """Name, key id and public key of a C2SP vkey of a type."""
    name, key_hash, encoded = vkey.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    computed = key_id(name, kind, raw[1:])
    if raw[0] != kind or computed.hex() != key_hash:
        raise BadNote(f"not an Ed25519 key of type {kind} under its own hash")
    return name, computed, Ed25519PublicKey.from_public_bytes(raw[1:])


def split_note(text):
    """The signed body, and each signature line as name, key id and rest."""
    body, separator, signatures = text.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise BadNote("not a signed note")
    lines = []
    for line in signatures[:-1].split("\n"):
        found = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        if not found:
            raise BadNote("a line after the blank one is no signature line")
        blob = base64.b64decode(found[2], validate=True)
        lines.append((found[1], blob[:4], blob[4:]))
    return body + "\n", lines


def open_note(text, key):
    """Origin, size and root of a checkpoint that this key of a log signed."""
    name, own_id, public = key
    body, lines = split_note(text)
    own = [rest for signer, found, rest in lines if signer == name and found == own_id]
    if len(own) != 1:
        raise BadNote(f"not signed by {name}, once")
    try:
        public.verify(own[0], body.encode())
    except InvalidSignature:
        raise BadNote("the signature is false") from None
    origin, size, root = body.removesuffix("\n").split("\n")
    if str(int(size)) != size:
        raise BadNote("the size is spelled otherwise")
    return origin, int(size), base64.b64decode(root, validate=True)


def cosigned(text, key):
    """The time, in seconds, at which this witness cosigned the checkpoint."""
    name, own_id, public = key
    body, lines = split_note(text)
    own = [rest for signer, found, rest in lines if signer == name and found == own_id]
    if len(own) != 1:
        raise BadNote(f"not cosigned by {name}, once")
    if len(own[0]) != 72:
        raise BadNote("the cosignature has another length")
    (seconds,) = struct.unpack(">Q", own[0][:8])
    try:
        public.verify(own[0][8:], f"cosignature/v1\ntime {seconds}\n{body}".encode())
    except InvalidSignature:
        raise BadNote("the cosignature is false") from None
    return seconds


def leaf_hash(leaf):
    """RFC 6962, section 2.1."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()
