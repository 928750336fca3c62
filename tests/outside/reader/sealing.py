"""What opens: the object format, wraps, shares, the recovery seal, and the
wire format of what is inside. From `keys/FORMAT.md` and `server/RECORDS.md`
alone.
"""

import base64
import hashlib
import json

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHUNK = 16384
SEALED_CHUNK = CHUNK + 16
HEADER = 56


class Refused(Exception):
    """What was asked for cannot be had: exit code 1."""

    code = 1


class TooFew(Refused):
    """Fewer shards of an object are left than it needs: exit code 3."""

    code = 3


class Damaged(Refused):
    """Bytes that are not what they should be: exit code 4."""

    code = 4


def lp(*fields):
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def context(label, *parts):
    return b"\x01" + lp(label, *parts)


def named(label, *parts):
    return context(b"named/" + label, *parts)


def derive(key, role, label):
    info = b"coffer/v1/" + role + b"\x00" + label
    return HKDFExpand(hashes.SHA512(), 32, info).derive(key)


def unseal(key, bound, sealed):
    """The plaintext of a sealed message (Cobblestone-256)."""
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + sealed[:24] + bound
    okm = HKDFExpand(hashes.SHA512(), 76, info).derive(key)
    if okm[44:] != sealed[24:HEADER]:
        raise Damaged("sealed under another key or context")
    base, cipher = int.from_bytes(okm[32:44], "big"), AESGCM(okm[:32])
    body, plain = memoryview(sealed)[HEADER:], []
    try:
        for number in range(len(body) // SEALED_CHUNK + 1):  # the last chunk is short
            nonce = (base ^ number).to_bytes(12, "big")
            chunk = body[number * SEALED_CHUNK : (number + 1) * SEALED_CHUNK]
            plain.append(cipher.decrypt(nonce, chunk, None))
    except InvalidTag:
        raise Damaged("a seal is broken") from None
    return b"".join(plain)


def unwrap(key, purpose, wrapping, tenant, subject, wrap):
    """The key in a wrap, which names its wrapping key and epoch."""
    if len(wrap) != 81 or wrap[0] != 1 or wrap[1:17] != wrapping:
        raise Refused("a wrap of another format or key")
    bound = lp(b"coffer/wrap/v1", purpose, wrapping, wrap[17:21], tenant, subject)
    try:
        return AESGCMSIV(key).decrypt(wrap[21:33], wrap[33:], bound)
    except InvalidTag:
        raise Damaged("a wrap does not open") from None


def _times(a, b):
    """Multiplication in GF(2^8) with polynomial 0x11b."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _inverse(a):
    result = 1
    for _ in range(254):
        result = _times(result, a)
    return result


def combine(paths):
    """The key of a quorum's share files."""
    shares = [json.loads(open(path, encoding="utf-8").read()) for path in paths]
    first = shares[0]
    if len({(share["set"], share["purpose"]) for share in shares}) != 1:
        raise Refused("shares of more than one set")
    if len(shares) < first["threshold"]:
        raise Refused(f"{first['threshold']} shares are needed")
    points = [base64.b64decode(share["share"]) for share in shares]
    key = bytearray(32)
    for mine in points:
        weight = 1
        for other in points:
            if other is not mine:
                weight = _times(weight, _times(other[32], _inverse(other[32] ^ mine[32])))
        for at in range(32):
            key[at] ^= _times(weight, mine[at])
    key = bytes(key)
    said = lp(bytes.fromhex(first["set"]), first["purpose"].encode(), key)
    commitment = hashlib.sha256(b"coffer/share/commitment/v1\x00" + said).digest()
    if commitment != base64.b64decode(first["commitment"]):
        raise Refused("the shares do not give the key that they commit to: one of them is false")
    return key


def open_recovery(seed, info, sealed):
    """The key in a recovery seal: HPKE with X-Wing, whose private key is a seed."""
    if len(sealed) != 1171 or sealed[0] != 1:
        raise Refused("no recovery seal of this format")
    expanded = hashlib.shake_256(seed).digest(96)
    private = hpke.MLKEM768X25519PrivateKey(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
    )
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    try:
        return suite.decrypt(sealed[3:], private, sealed[:3] + info)
    except InvalidTag:
        raise Refused("sealed to another recovery key") from None


class Postcard:
    """Reads the wire format of what is sealed, field by field."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, count):
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise Damaged("cut short inside")
        self.at += count
        return bytes(taken)

    def number(self):
        value = shift = 0
        while True:
            byte = self.raw(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise Damaged("a number without end")

    def signed(self):
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def blob(self):
        return self.raw(self.number())

    def text(self):
        return self.blob().decode("utf-8")

    def id(self):
        return self.raw(16)

    def many(self, one):
        return [one() for _ in range(self.number())]

    def maybe(self, one):
        return one() if self.raw(1)[0] else None

    def end(self):
        if self.at != len(self.data):
            raise Damaged("bytes left over")
