"""A tenant's objects, from the disks of its sites: which there are, and what
they hold. From `server/RECORDS.md`.
"""

import pathlib

from blake3 import blake3

from sealing import Damaged, Postcard, Refused, TooFew, context, derive, named, unseal, unwrap
from site_disk import MANIFEST, REGISTRY, SHARD, TOMBSTONE, Site


def open_sites(directory):
    """Every site of a directory that is there."""
    found = [Site(path) for path in sorted(pathlib.Path(directory).iterdir()) if (path / "SITE").is_file()]
    if not found:
        raise Refused(f"{directory} holds no site")
    return {site.id: site for site in found}


# Keys, from the slots of the sites and the deployment's root key.


def newest(sites, kind, key):
    """Each slot of a kind that this key opens, in its newest generation."""
    best = {}
    for site in sites.values():
        for slot, generation, body in site.slots():
            if best.get(slot, (0,))[0] >= generation:
                continue
            try:
                plain = unseal(key, named(b"coffer key slot v1", bytes([kind]), slot), body)
            except Refused:
                continue
            best[slot] = (generation, plain)
    return [plain for _, plain in best.values()]


def skip_policy(card):
    for _ in range(2):
        card.many(card.text)
    card.number(), card.raw(2), card.number()


def tenant_keys(sites, root, wanted):
    """The keys of one tenant and of no other: what a ceremony hands out."""
    found = newest(sites, 1, derive(root, b"root/sealing", b"deployment slot v1"))
    if not found:
        raise Refused("no slot of these sites opens with this root key")
    deployment = Postcard(found[0])
    deployment.raw(16), deployment.number()
    for plain in newest(sites, 2, deployment.raw(32)):
        card = Postcard(plain)
        tenant, name = card.id(), card.text()
        if wanted not in (name, "ten-" + tenant.hex()):
            continue
        skip_policy(card), card.raw(1)
        root_key, tenant_root, wrap = card.id(), card.id(), card.blob()
        inner = unwrap(derive(root, b"root/wrapping", b"tenant-root"), b"tenant-root", root_key, tenant, tenant_root, wrap)
        wrapping, keks = derive(inner, b"tenant-root/wrapping", b"kek"), {}
        for kek, _, wrap in card.many(lambda: (card.id(), card.number(), card.blob())):
            keks[kek.hex()] = unwrap(wrapping, b"kek", tenant_root, tenant, kek, wrap).hex()
        sealing = {name: derive(inner, b"tenant-root/sealing", name.encode() + b" v1").hex() for name in ("registry", "tombstone")}
        return {"tenant": tenant.hex(), "keks": keks, **sealing}
    raise Refused(f"these sites know no tenant {wanted}")


class Tenant:
    """A tenant whose keys are open, over the sites that are left."""

    def __init__(self, sites, keys):
        self.sites, self.id = sites, bytes.fromhex(keys["tenant"])
        self.keks = {bytes.fromhex(kek): bytes.fromhex(key) for kek, key in keys["keks"].items()}
        self.registry, self.tombstone = bytes.fromhex(keys["registry"]), bytes.fromhex(keys["tombstone"])

    def _records(self, kind):
        """Each record of a kind once, from the first site that gives it whole."""
        seen = set()
        for site in self.sites.values():
            for record in site.ids(kind):
                body = None if record in seen else site.read(record, kind)
                if body is not None:
                    seen.add(record)
                    yield record, body

    def _facts(self, kind, key):
        tag = derive(key, b"dek/subkey", b"record tag")[:16]
        for record, body in self._records(kind):
            if body[0] == 1 and body[1:17] == tag:
                yield Postcard(unseal(key, named(b"coffer fact v1", bytes([kind]), self.id, record), body[17:]))

    def bucket(self, wanted):
        """The id of the bucket of this name that was not removed."""
        named_, removed = {}, set()
        for card in self._facts(REGISTRY, self.registry):
            fact = card.number()
            if fact in (0, 3):
                bucket, name = card.id(), card.text()
                named_.setdefault(name, set()).add(bucket)
            elif fact == 1:
                removed.add(card.id())
        left = named_.get(wanted, set()) - removed
        if len(left) != 1:
            raise Refused(f"there is no bucket {wanted}")
        return left.pop()

    def _tombstones(self):
        hidden, outlawed = {}, set()
        for card in self._facts(TOMBSTONE, self.tombstone):
            _, object_, version, order, _, failed = card.id(), card.id(), card.id(), card.number(), card.number(), card.raw(1)
            if failed == b"\x01":
                outlawed.add(version)
            else:
                hidden[object_] = max(hidden.get(object_, 0), order)
        return hidden, outlawed

    def objects(self, bucket):
        """The newest version of each object of a bucket, by key."""
        hidden, outlawed = self._tombstones()
        versions = {}
        for record, body in self._records(MANIFEST):
            found = self._manifest(record, body)
            if found is None or found.bucket != bucket or found.version in outlawed:
                continue
            same = versions.get(found.version)
            if same is None or (same.revision, same.record) < (found.revision, found.record):
                versions[found.version] = found
        newest_ = {}
        for version in versions.values():
            if version.order > hidden.get(version.object, -1):
                last = newest_.get(version.key)
                if last is None or last.order < version.order:
                    newest_[version.key] = version
        return newest_

    def _manifest(self, record, body):
        if body[0] != 2:
            raise Refused(f"a manifest of format {body[0]}, which this reader does not know")
        version, wrap, sealed = body[1:17], body[17:98], body[98:]
        if wrap[1:17] not in self.keks:
            return None  # another tenant's
        dek = unwrap(self.keks[wrap[1:17]], b"dek", wrap[1:17], self.id, version, wrap)
        plain = unseal(derive(dek, b"dek/subkey", b"manifest"), context(b"manifest", self.id, version, record), sealed)
        return Version(record, version, dek, plain)

    def read(self, version):
        """The content of a version, checked against its digest."""
        if version.layout is None:
            return version.inline
        plain = unseal(
            derive(version.dek, b"dek/subkey", b"content"),
            context(b"object", self.id, version.bucket, version.object, version.version),
            b"".join(self._stripes(version)),
        )
        if len(plain) != version.size or blake3(plain).digest() != version.content:
            raise Damaged("an object opens to another content than its manifest says")
        return plain

    def _stripes(self, version):
        (k, m), sites, stripe_bytes, locator, digests = version.layout
        sealed = 56 + version.size + 16 * (version.size // 16384 + 1)
        for stripe, expected in enumerate(digests):
            length = min(stripe_bytes, sealed - stripe * stripe_bytes)
            shards = {}
            for index in range(k + m):
                if len(shards) == k:
                    break
                record = blake3(stripe.to_bytes(4, "big") + bytes([index]), key=locator).digest()[:16]
                site = self.sites.get(sites[index])
                body = site.read(record, SHARD, expected[index]) if site else None
                if body is not None:
                    shards[index] = body
            if len(shards) < k:
                raise TooFew("too few shards of an object are left")
            yield join(k, m, shards)[:length]


class Version:
    """A manifest, opened."""

    def __init__(self, record, version, dek, plain):
        length = int.from_bytes(plain[:4], "big")
        card, self.inline = Postcard(plain[4 : 4 + length]), plain[4 + length :]
        self.record, self.version, self.dek = record, version, dek
        self.revision = card.number()
        self.bucket, self.object, self.key = card.id(), card.id(), card.blob()
        self.order, self.created = card.number(), card.number()
        card.many(lambda: (card.text(), card.text()))
        self.layout = None
        if card.number() == 1:
            self.size, self.content = card.number(), card.raw(32)
            if card.number() != 1:
                raise Refused("a layout of a kind that this reader does not know")
            geometry, sites = tuple(card.raw(2)), card.many(card.id)
            stripe_bytes, locator = card.number(), card.raw(32)
            self.layout = (geometry, sites, stripe_bytes, locator, card.many(lambda: card.many(lambda: card.raw(32))))
        else:
            card.many(card.id)
        card.end()


# Reed-Solomon over GF(2^8) with polynomial 0x11d, from a Vandermonde matrix
# made systematic (`regions/src/codec.rs`).

EXP, LOG = [0] * 512, [0] * 256
_value = 1
for _power in range(255):
    EXP[_power] = EXP[_power + 255] = _value
    LOG[_value] = _power
    _value = (_value << 1) ^ (0x11D if _value & 0x80 else 0)


def times(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


TIMES = [bytes(times(a, b) for b in range(256)) for a in range(256)]


def product(left, right):
    columns = list(zip(*right))
    result = []
    for row in left:
        line = []
        for column in columns:
            value = 0
            for a, b in zip(row, column):
                value ^= times(a, b)
            line.append(value)
        result.append(line)
    return result


def inverted(matrix):
    size = len(matrix)
    rows = [list(row) + [int(at == number) for at in range(size)] for number, row in enumerate(matrix)]
    for at in range(size):
        pivot = next(row for row in range(at, size) if rows[row][at])
        rows[at], rows[pivot] = rows[pivot], rows[at]
        scale = EXP[255 - LOG[rows[at][at]]]
        rows[at] = [times(scale, value) for value in rows[at]]
        for other in range(size):
            if other != at and rows[other][at]:
                factor = rows[other][at]
                rows[other] = [a ^ times(factor, b) for a, b in zip(rows[other], rows[at])]
    return [row[size:] for row in rows]


def power(base, exponent):
    result = 1
    for _ in range(exponent):
        result = times(result, base)
    return result


def coding(k, n):
    vandermonde = [[power(row, column) for column in range(k)] for row in range(n)]
    return product(vandermonde, inverted(vandermonde[:k]))


def join(k, m, shards):
    """The stripe of any k shards, with its padding."""
    if all(index in shards for index in range(k)):
        return b"".join(shards[index] for index in range(k))
    have = sorted(shards)[:k]
    rows, code = [], coding(k, k + m)
    decode = inverted([code[index] for index in have])
    for index in range(k):
        if index in shards:
            rows.append(shards[index])
            continue
        length, sum_ = len(shards[have[0]]), 0
        for factor, other in zip(decode[index], have):
            if factor:
                sum_ ^= int.from_bytes(shards[other].translate(TIMES[factor]), "little")
        rows.append(sum_.to_bytes(length, "little"))
    return b"".join(rows)
