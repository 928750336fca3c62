"""The manifest of a pack against its files: every one listed, every digest
and size right, every link of a document resolved.

    check_manifest.py PACK
"""

import hashlib
import json
import pathlib
import re
import sys

from found import Findings

UNLISTED = {"MANIFEST.json", "MANIFEST.dsse.json"}


def links(path):
    """The links of a document that lead to another file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        targets = re.findall(r'(?:href|src)="([^"]*)"', text)
    else:
        targets = []

        def walk(value):
            if isinstance(value, dict):
                if isinstance(value.get("href"), str):
                    targets.append(value["href"])
                for inner in value.values():
                    walk(inner)
            elif isinstance(value, list):
                for inner in value:
                    walk(inner)

        walk(json.loads(text))
    return targets, text


def main():
    pack = pathlib.Path(sys.argv[1])
    findings = Findings("manifest")
    manifest = json.loads((pack / "MANIFEST.json").read_text(encoding="utf-8"))
    listed = {entry["path"]: entry for entry in manifest["files"]}
    there = {str(p.relative_to(pack)) for p in pack.rglob("*") if p.is_file()} - UNLISTED
    for path in sorted(there - set(listed)):
        findings.expect(False, path, "is in the pack and not in its manifest")
    for path, entry in sorted(listed.items()):
        if path not in there:
            findings.expect(False, path, "is in the manifest and not in the pack")
            continue
        data = (pack / path).read_bytes()
        findings.expect(len(data) == entry["bytes"], path, "has another size")
        findings.expect(hashlib.sha256(data).hexdigest() == entry["sha256"], path, "has another SHA-256")
    for path in sorted(pack.rglob("*")):
        if path.suffix not in (".html", ".json") or path.name.endswith(".dsse.json") or "drills" in path.parts:
            continue
        targets, text = links(path)
        for target in targets:
            name = str(path.relative_to(pack))
            if target.startswith("#"):
                anchor = target[1:]
                good = f'id="{anchor}"' in text or f'"uuid":"{anchor}"' in text
                findings.expect(good, name, f"the link {target} leads nowhere")
            elif re.match(r"^[a-z][a-z0-9+.-]*:", target):
                findings.expect(target.startswith("https://"), name, f"the link {target} is no https link")
            else:
                file = (path.parent / target.split("#")[0]).resolve()
                findings.expect(file.is_file(), name, f"the link {target} leads nowhere")
    findings.end()


main()
