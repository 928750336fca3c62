"""The reader of `reader/` against the fixed vectors of the formats and the
stored files of a site: everything that must open opens to what it must, and
nothing else does.

    check_reader.py [ROOT]
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "reader"))

import sealing  # noqa: E402
import site_disk  # noqa: E402
from found import Findings  # noqa: E402


def fields(text):
    """The lines of a vector; some names come more than once."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        found.setdefault(name, []).append(value)
    return found


def raw(text):
    """The bytes of an id, or of hexadecimal digits."""
    return bytes.fromhex(text.rsplit("-", 1)[-1])


def open_object(v):
    bound = sealing.context(b"object", *(raw(v[name][0]) for name in ("tenant", "bucket", "object", "version")))
    return sealing.unseal(raw(v["key"][0]), bound, raw(v["sealed"][0]))


def unwrap_dek(v):
    wrap = raw(v["wrap"][0])
    if int.from_bytes(wrap[17:21], "big") != int(v["epoch"][0]):
        raise sealing.Refused("another epoch")
    ids = [raw(v[name][0]) for name in ("key-id", "tenant", "version")]
    return sealing.unwrap(raw(v["key"][0]), b"dek", *ids, wrap)


def open_recovery(v):
    return sealing.open_recovery(raw(v["key"][0]), v["info"][0].encode(), raw(v["sealed"][0]))


def combine(v):
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for number, share in enumerate(v.get("share", [])):
            paths.append(pathlib.Path(directory) / str(number))
            paths[-1].write_text(share, encoding="utf-8")
        return sealing.combine(paths)


OPERATIONS = {"open-object": open_object, "unwrap-dek": unwrap_dek, "open-recovery": open_recovery, "combine": combine}


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]
    findings = Findings("reader")
    tried = 0
    for path in sorted((root / "keys/vectors").glob("*.txt")):
        vector = fields(path.read_text(encoding="utf-8"))
        operation = OPERATIONS.get(vector["operation"][0])
        if operation is None:
            continue
        tried += 1
        expected, _, plain = vector["expect"][0].partition(" ")
        try:
            opened = operation(vector)
        except (sealing.Refused, ValueError, ZeroDivisionError, IndexError, StopIteration) as error:
            findings.expect(expected == "error", path.name, f"does not open: {error}")
        else:
            findings.expect(expected == "ok" and opened.hex() == plain, path.name, "opens to something else")
    findings.expect(tried > 30, "vectors", f"only {tried} were found")
    site = site_disk.Site(root / "regions/site/fixtures/v1")
    whole = [record for record, line in site.records.items() if site.read(record, line[0]) is not None]
    findings.expect(len(whole) == len(site.records) > 0 and site.damaged == 0, "fixtures/v1", "is not read whole")
    findings.expect(len(list(site.slots())) == 2, "fixtures/v1", "its key slot is not read")
    findings.end()


main()
