"""One site's disk, read as `regions/LAYOUT.md` draws it. Nothing is written."""

import json
import mmap
import pathlib
import struct

from blake3 import blake3

SHARD, MANIFEST, TOMBSTONE, REGISTRY = 1, 2, 3, 5
VOLUME_CONTEXT = "coffer 2026 site volume v1 batch header"
SLOT_CONTEXT = "coffer 2026 site key slot v1"
RETIRED_CONTEXT = "coffer 2026 site retired volumes v1"
BATCH, ENTRY = 92, 56


def derived(context, data):
    return blake3(data, derive_key_context=context).digest()


class Site:
    """What a directory holds: where each record lies, by its id."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        told = json.loads((self.path / "SITE").read_text(encoding="utf-8"))
        if told["format"] not in (1, 2):
            raise ValueError(f"{path}: a layout of format {told['format']}")
        self.id = bytes.fromhex(told["site"].removeprefix("site-"))
        self.records, self.damaged, self.maps = {}, 0, {}
        retired, found = self._retired(), []
        for volume in sorted((self.path / "volumes").glob("*.vol")):
            number = int(volume.stem)
            if any(first <= number <= last for first, last in retired):
                continue
            found.extend(self._batches(number, volume))
        for _, number, entries in sorted(found, key=lambda batch: batch[0]):
            for entry in entries:
                self._enter(number, *entry)

    def _retired(self):
        path = self.path / "RETIRED"
        text = path.read_bytes() if path.exists() else b""
        for copy in (text[: len(text) // 2], text[len(text) // 2 :]):
            if len(copy) >= 60 and derived(RETIRED_CONTEXT, copy[:-32]) == copy[-32:]:
                (runs,) = struct.unpack_from("<I", copy, 24)
                return [struct.unpack_from("<II", copy, 28 + 90 * run) for run in range(runs)]
        return []

    def _batches(self, number, path):
        """Every batch whose header is valid: (sequence number, volume, entries)."""
        with path.open("rb") as file:
            if path.stat().st_size < 128:
                return
            data = self.maps[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        head = next((data[at : at + 64] for at in (0, 64) if self._is_header(data[at : at + 64])), None)
        if head is None:
            self.damaged += 1
            return
        key, at = derived(VOLUME_CONTEXT, head), 128
        while 0 <= at < len(data):
            batch = self._batch(data, key, at)
            if batch is None:
                at = data.find(b"CFBATCH1", at + 1)  # past rot, to the next valid header
                self.damaged += 1
                continue
            sequence, entries, at = batch
            yield sequence, number, entries

    @staticmethod
    def _is_header(head):
        return head[:8] == b"CFVOLUME" and head[8] == 1 and blake3(head[:48]).digest()[:16] == head[48:]

    @staticmethod
    def _batch(data, key, at):
        head = data[at : at + BATCH]
        if len(head) < BATCH or head[:8] != b"CFBATCH1":
            return None
        sum_ = blake3(head[:76] + at.to_bytes(8, "little"), key=key).digest()[:16]
        (sequence,), (count, length) = struct.unpack_from("<Q", head, 8), struct.unpack_from("<IQ", head, 48)
        end = at + BATCH + count * ENTRY + length
        if sum_ != head[76:] or end > len(data):
            return None
        entries, body = [], at + BATCH + count * ENTRY
        for each in range(count):
            line = data[at + BATCH + each * ENTRY : at + BATCH + (each + 1) * ENTRY]
            (size,) = struct.unpack_from("<I", line, 20)
            entries.append((line[0], bytes(line[1:17]), bytes(line[17:20]), body, size, bytes(line[24:56])))
            body += size
        return sequence, entries, end

    def _enter(self, volume, kind, record, geometry, at, size, digest):
        if kind == 0:
            self.records.pop(record, None)
        else:
            self.records[record] = (kind, volume, geometry, at, size, digest)

    def ids(self, kind):
        return [record for record, line in self.records.items() if line[0] == kind]

    def read(self, record, kind, digest=None):
        """The body of a record, if it is there and its digest is right."""
        line = self.records.get(record)
        if line is None or line[0] != kind or digest not in (None, line[5]):
            return None
        _, volume, geometry, at, size, said = line
        body = self.maps[volume][at : at + size]
        if blake3(b"coffer record v1" + bytes([kind]) + record + geometry + body).digest() != said:
            self.damaged += 1
            return None
        return body

    def slots(self):
        """Every readable content of every key slot: (slot id, generation, body)."""
        for path in sorted((self.path / "slots").glob("*")):
            name = path.name.removeprefix("slot-")
            if len(name) != 32:
                continue
            slot, file = bytes.fromhex(name), path.read_bytes()
            for half in (file[:69632], file[69632:139264]):
                generation, length = struct.unpack_from("<QI", half, 8)
                body = half[4096 : 4096 + min(length, 65536)]
                if half[:8] == b"CFRSLOT1" and derived(SLOT_CONTEXT, slot + half[:24] + body) == half[24:56]:
                    yield slot, generation, body
