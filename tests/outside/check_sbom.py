"""The bill of materials of a pack, with the strict validator of
`cyclonedx-python-lib`.

    check_sbom.py PACK
"""

import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from found import Findings


def main():
    pack = pathlib.Path(sys.argv[1])
    findings = Findings("sbom")
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for path in sorted((pack / "sbom").glob("*.cdx.json")):
        text = path.read_text(encoding="utf-8")
        error = validator.validate_str(text)
        findings.expect(error is None, str(path.relative_to(pack)), f"{error!r}")
        refused = validator.validate_str(text.replace('"alg":"SHA-256"', '"alg":"ROT-13"', 1))
        findings.expect(refused is not None, str(path.relative_to(pack)), "the validator takes anything")
    findings.end()


main()
