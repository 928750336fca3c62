"""The OSCAL files of a pack: against a JSON schema with `check-jsonschema`,
with `trestle import` and `trestle validate`, and with the validator of the
PyPI package `oscal`, which holds NIST's metaschema of every version.

    check_oscal.py PACK

The schema is NIST's own where OSCAL_SCHEMAS names a directory with its files
(oscal_complete_schema.json); otherwise the one that trestle's models give.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from oscal import OSCAL

from found import Findings

MODELS = {
    "assessment-plan": "assessment_plan",
    "assessment-results": "assessment_results",
    "component-definition": "component",
    "plan-of-action-and-milestones": "poam",
}


def schema_for(model, module, scratch):
    given = os.environ.get("OSCAL_SCHEMAS")
    if given:
        return pathlib.Path(given) / "oscal_complete_schema.json"
    models = __import__(f"trestle.oscal.{module}", fromlist=["Model"])
    path = scratch / f"{model}.schema.json"
    path.write_text(models.Model.schema_json(), encoding="utf-8")
    return path


def said(run):
    return (run.stderr + run.stdout).strip()[-2000:]


def main():
    pack = pathlib.Path(sys.argv[1])
    folder = pack / "reports" / "oscal"
    bin_dir = pathlib.Path(sys.executable).parent
    findings = Findings("oscal")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        workspace = scratch / "workspace"
        workspace.mkdir()

        def call(*command):
            return subprocess.run(command, capture_output=True, text=True, check=False, cwd=workspace)

        call(bin_dir / "trestle", "init", "--local")
        for model, module in MODELS.items():
            path = (folder / f"{model}.json").resolve()
            name = f"reports/oscal/{model}.json"
            if not path.exists():
                findings.expect(model == "plan-of-action-and-milestones", name, "is not there")
                continue
            schema = schema_for(model, module, scratch)
            run = call(bin_dir / "check-jsonschema", "--schemafile", schema, path)
            findings.expect(run.returncode == 0, name, f"check-jsonschema: {said(run)}")
            run = call(bin_dir / "trestle", "import", "-f", path, "-o", "given")
            findings.expect(run.returncode == 0, name, f"trestle import: {said(run)}")
            run = call(bin_dir / "trestle", "validate", "-t", model, "-n", "given")
            findings.expect(run.returncode == 0, name, f"trestle validate: {said(run)}")
            content = OSCAL.loads(path.read_text(encoding="utf-8"))
            findings.expect(content.is_valid, name, f"PyPI oscal: {content.content_state.name}")
            # A validator that accepts all is none: the same with one wrong state.
            if model == "assessment-results":
                broken = json.loads(path.read_text(encoding="utf-8"))
                finding = broken["assessment-results"]["results"][0]["findings"][0]
                finding["target"]["status"]["state"] = "fine"
                content = OSCAL.loads(json.dumps(broken))
                findings.expect(not content.is_valid, name, "PyPI oscal takes a state that there is not")
    findings.end()


main()
