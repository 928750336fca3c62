"""A tree out of a backup repository, put back entry by entry. From
`client/BACKUP.md`.
"""

import os
import socket
import stat

import zstandard
from blake3 import blake3

from sealing import Damaged, Postcard, Refused, TooFew, named, open_recovery, unseal

PACKS_HELD = 4
FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHARACTER, BLOCK = range(7)


class Repository:
    """A repository whose key is open. `read(name)` gives a blob's bytes."""

    def __init__(self, names, read, key=None, recovery=None):
        self.names, self.blob = names, read
        if key is None:
            key = open_recovery(recovery, b"coffer backup repository key v1", read("keys/recovery"))
        derived = lambda what: blake3(key, derive_key_context="coffer backup 2026 v1 " + what).digest()
        self.chunk_key, self.record_key, self.id_key = derived("chunk sealing"), derived("record sealing"), derived("chunk ids")
        config = self._record("backup repository v1", "repository")
        if config.number() != 1:
            raise Refused("a repository of another format")
        self.where, self.packs = {}, {}
        for name in self._below("index/"):
            card = self._record("backup index v1", name)
            for pack, chunks in card.many(lambda: (card.raw(32), card.many(lambda: (card.raw(32), card.number())))):
                blob, at = "packs/" + pack.hex(), 8
                if blob in names:
                    for chunk, length in chunks:
                        self.where[chunk] = (blob, at, length)
                        at += length
        self.unpacker = zstandard.ZstdDecompressor()

    def _below(self, prefix):
        return sorted(name for name in self.names if name.startswith(prefix))

    def _record(self, label, name):
        body = self.blob(name)
        if body[0] != 1:
            raise Refused(f"{name} has another format")
        return Postcard(unseal(self.record_key, named(label.encode(), name.encode()), body[1:]))

    def _chunk(self, chunk, length):
        if chunk not in self.where:
            raise TooFew("a chunk is in no pack that is left")
        pack, at, sealed = self.where[chunk]
        if pack not in self.packs:
            while len(self.packs) >= PACKS_HELD:
                self.packs.pop(next(iter(self.packs)))
            self.packs[pack] = self.blob(pack)
        plain = unseal(self.chunk_key, named(b"backup chunk v1", chunk), self.packs[pack][at : at + sealed])
        data = plain[1:] if plain[0] == 0 else self.unpacker.decompress(plain[1:], max_output_size=4 << 20)
        if blake3(data, key=self.id_key).digest() != chunk or len(data) != length:
            raise Damaged("a chunk is another than its id says")
        return data

    def snapshot(self, wanted=None):
        """The chunks of a snapshot's entries: of the one that is named, or of the latest."""
        found = []
        for name in self._below("snapshots/"):
            card = self._record("backup snapshot v1", name)
            id_, time = card.id().hex(), card.number()
            card.text(), card.blob(), card.raw(32)
            for _ in range(6):
                card.number()
            chunks, entries = card.many(lambda: (card.raw(32), card.number())), card.number()
            if wanted in (None, id_):
                found.append((time, id_, chunks, entries))
        if not found:
            raise Refused("there is no such snapshot")
        return max(found)[2:]

    def entries(self, chunks, count):
        """Every entry of a snapshot, in order."""
        pending, came = b"", 0
        for chunk, length in chunks:
            pending += self._chunk(chunk, length)
            while len(pending) >= 4:
                size = int.from_bytes(pending[:4], "little")
                if len(pending) < 4 + size:
                    break
                yield Entry(Postcard(pending[4 : 4 + size]))
                pending, came = pending[4 + size :], came + 1
        if pending or came != count:
            raise Damaged("the list of entries is cut short")

    def content(self, entry):
        for chunk, length in entry.chunks:
            yield self._chunk(chunk, length)


class Entry:
    def __init__(self, card):
        self.path, self.kind = card.blob(), card.number()
        self.mode, self.uid, self.gid = card.number(), card.number(), card.number()
        self.mtime = card.signed() * 1_000_000_000 + card.number()
        self.xattrs = dict(card.many(lambda: (card.blob(), card.blob())))
        self.first = card.maybe(card.blob)
        self.size = card.number()
        self.data = card.many(lambda: (card.number(), card.number()))
        self.digest = card.maybe(lambda: card.raw(32))
        self.link = card.maybe(card.blob)
        self.device = card.maybe(lambda: (card.number(), card.number()))
        self.chunks = card.many(lambda: (card.raw(32), card.number()))
        card.end()
        parts = self.path.split(b"/") if self.path else []
        if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            raise Damaged("a path that leaves the tree")


def write_file(path, entry, pieces):
    """The extents of a file, its holes left out, and its digest with them as zeros."""
    hasher, left, zeros = blake3(), b"", bytes(1 << 20)
    with open(path, "xb", buffering=0) as file:
        end = 0
        for offset, length in entry.data:
            for hole in range(end, offset, len(zeros)):
                hasher.update(zeros[: min(len(zeros), offset - hole)])
            file.seek(offset)
            end = offset + length
            while length:
                left = left or next(pieces)
                part, left = left[:length], left[length:]
                hasher.update(part)
                file.write(part)
                length -= len(part)
        for hole in range(end, entry.size, len(zeros)):
            hasher.update(zeros[: min(len(zeros), entry.size - hole)])
        file.truncate(entry.size)
    if left or hasher.digest() != entry.digest:
        raise Damaged("a file came out with another content than it was stored with")


def place(target, entry, pieces):
    path = os.path.join(target, entry.path) if entry.path else target
    if entry.first is not None:
        os.link(os.path.join(target, entry.first), path, follow_symlinks=False)
        return
    if entry.kind == FILE:
        write_file(path, entry, pieces)
    elif entry.kind == DIRECTORY:
        if entry.path:
            os.mkdir(path, 0o700)
        return  # its owner, mode and times come last
    elif entry.kind == SYMLINK:
        os.symlink(entry.link, path)
    elif entry.kind == FIFO:
        os.mkfifo(path)
    elif entry.kind == SOCKET:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        kind = stat.S_IFCHR if entry.kind == CHARACTER else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(*entry.device))
    dress(path, entry)


def dress(path, entry):
    """Owner, attributes, mode and time, in the order in which one does not undo another."""
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    for name, value in entry.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    if entry.kind != SYMLINK:
        os.chmod(path, entry.mode)
    os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)


def restore(repository, wanted, target):
    """Puts a snapshot into an empty directory; entries and bytes."""
    target, directories, entries, total = os.fsencode(target), [], 0, 0
    os.makedirs(target, 0o700, exist_ok=True)
    if os.listdir(target):
        raise Refused("the target is not empty")
    os.umask(0o077)
    for entry in repository.entries(*repository.snapshot(wanted)):
        place(target, entry, repository.content(entry))
        if entry.kind == DIRECTORY:
            directories.append(entry)
        entries, total = entries + 1, total + sum(length for _, length in entry.chunks)
    for entry in reversed(directories):
        dress(os.path.join(target, entry.path) if entry.path else target, entry)
    os.sync()
    return entries, total
