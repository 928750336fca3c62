//! The text that tells an auditor how to check each item of a pack.

use coffer_keys::VerifierName;

use crate::report::{CAUTION, LIMITS, Report};

pub(super) fn text(report: &Report<'_>, signer: &VerifierName) -> String {
    let facts = &report.material.facts.facts;
    let limits: String = LIMITS.iter().map(|limit| format!("- {} {}\n", limit.what, limit.instead)).collect();
    format!(
        "# Evidence of tenant {tenant}\n\n\
        {satisfied} of {all} objectives are satisfied on the evidence of {taken}, for the period from {from} to {to}.\n\n\
        {CAUTION}\n\n\
        ## Before anything else\n\n\
        Everything here is signed with one key. This pack's copy of it proves nothing: compare\n\n    {signer}\n\n\
        with the recovery kit, or with what the tenant was given when it was created. Then, with this product's program:\n\n    \
        coffer evidence verify . --key '{signer}'\n\n\
        ## Without this product\n\n\
        A laptop with Python and the packages cryptography, pymerkle, compliance-trestle, oscal, check-jsonschema and\n\
        cyclonedx-python-lib is enough. Checkers that do all of this come with the product's source, in `tests/outside`.\n\n\
        | item | what it is | how to check it |\n|---|---|---|\n\
        | `MANIFEST.json` | every file, its size and SHA-256 | `sha256sum` |\n\
        | `MANIFEST.dsse.json` | the signature over it: DSSE, in-toto Statement v1 | Ed25519 over `DSSEv1 28 application/vnd.in-toto+json LENGTH PAYLOAD` with `keys/evidence.pem` |\n\
        | `facts/facts.dsse.json` | what the service says about itself and this tenant | the same; the SHA-256 of a zero byte and the payload is the subject of a `facts_read` leaf |\n\
        | `log/checkpoint` | the signed head of the audit log: C2SP signed note, with the cosignatures of witnesses if they were asked for | Ed25519 over the text before the blank line, that line's feed included; of a witness over `cosignature/v1`, `time SECONDS` and that text, each a line |\n\
        | `log/leaves.jsonl` | every leaf, one a line | RFC 6962 over the lines gives the root in the checkpoint (`pymerkle`) |\n\
        | `log/proofs/N.tlog-proof` | the proof of leaf N, counted from 0: C2SP tlog-proof | RFC 9162, section 2.1.3.2 |\n\
        | `drills/ID.json` | signed records of restorations | as the facts; a `drill_sign` leaf names the digest, and of each such leaf the record must be here |\n\
        | `reports/oscal/*.json` | component definition, plan, results, plan of action: OSCAL 1.2.1 | `trestle validate`; `trestle verify --beta -f F.json --signature F.dsse.json --public-key keys/evidence.pem` |\n\
        | `reports/report.html` | the same for people | made again from the evidence by `coffer evidence verify`, if it is of the version that `MANIFEST.json` names; else it says so |\n\
        | `reports/report.pdf` | the same on paper | the same |\n\
        | `reports/findings.csv` | the same as a table | the same |\n\
        | `residency/versions.json` | where each version lies, if it was asked for | the same; sums in the facts |\n\
        | `reports/objects.csv` | where each object lies only, and since when, if it was asked for | the same; from the list and the moves in the log |\n\
        | `policy/policies.json` | where bytes may lie | the facts |\n\
        | `policy/witnesses.txt` | the witnesses that the tenant named, if any | ask the tenant, and the witnesses |\n\
        | `keys/ca.pem` | the certificate authority of the deployment | `openssl x509 -in keys/ca.pem -text` |\n\
        | `sbom/coffer.cdx.json` | what the program is built from: CycloneDX 1.6 | `cyclonedx-python-lib`, strict |\n\n\
        ## What this does not prove\n\n{limits}",
        tenant = facts.tenant.id,
        satisfied = report.satisfied(),
        all = report.findings.len(),
        taken = facts.taken.utc(),
        from = report.material.period.from,
        to = report.material.period.to,
    )
}
