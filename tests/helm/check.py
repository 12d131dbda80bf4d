"""Checks what the chart renders, from outside: by Kubernetes' own schemas, and by Prometheus' grammar.

usage: check.py objects VERSION...   YAML on standard input; prints the objects as a JSON list
       check.py promql               a JSON list of expressions on standard input

Exits 1 with every mistake on standard error.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import promql_parser
import yaml

CUSTOM = {}
for file in (pathlib.Path(__file__).parent / "schemas").glob("*.json"):
    schema = json.loads(file.read_text())
    CUSTOM[schema["x-apiVersion"], file.stem] = jsonschema.Draft7Validator(schema)


class OnlyOnce(yaml.SafeLoader):
    """A key that is there twice is a mistake of the templates that YAML readers pass over."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def mistakes(thing, versions):
    validator = CUSTOM.get((thing["apiVersion"], thing["kind"]))
    if validator:
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(thing)]
    found = []
    for version in versions:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {error.path}: {error.message}")
    return found


wrong = []
if sys.argv[1] == "objects":
    objects = [thing for thing in yaml.load_all(sys.stdin, OnlyOnce) if thing]
    for thing in objects:
        wrong += [f"{thing['kind']} {thing['metadata']['name']}: {text}" for text in mistakes(thing, sys.argv[2:])]
    json.dump(objects, sys.stdout)
else:
    for text in json.load(sys.stdin):
        try:
            promql_parser.parse(text)
        except ValueError as error:
            wrong.append(f"{error} in {text}")
if wrong:
    sys.exit("\n".join(wrong))
