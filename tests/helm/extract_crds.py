"""Writes tests/helm/schemas anew: the schemas of the custom resources that the chart makes, out of their projects' own CRDs.

usage: tests/helm/extract_crds.py FILE.yaml...    (CRDs, such as `go mod download -json MODULE@VERSION` puts on the disk)

Descriptions are left out. Unknown keys are refused wherever the CRD does not allow them, as a strict API server does.
"""

import json
import pathlib
import sys

import yaml


def plain(schema):
    """A CRD's schema without its texts and with Kubernetes' own extensions in JSON Schema's words."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {}
    for key, value in schema.items():
        if key in ("description", "default", "format") or key.startswith("x-kubernetes-"):
            continue
        if key in ("properties", "patternProperties"):
            out[key] = {name: plain(inner) for name, inner in value.items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            out[key] = [plain(inner) for inner in value]
        elif isinstance(value, dict):
            out[key] = plain(value)
        else:
            out[key] = value
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in out and not open_ended:
        out["additionalProperties"] = False
    return out


for name in sys.argv[1:]:
    crd = yaml.safe_load(pathlib.Path(name).read_text())
    (version,) = [v for v in crd["spec"]["versions"] if v["storage"]]
    schema = plain(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    kind = crd["spec"]["names"]["kind"]
    schema["x-apiVersion"] = f"{crd['spec']['group']}/{version['name']}"
    out = pathlib.Path(__file__).parent / "schemas" / f"{kind}.json"
    out.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")
    print(out, out.stat().st_size)
