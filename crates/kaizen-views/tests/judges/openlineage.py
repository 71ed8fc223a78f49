"""Checks OpenLineage events, one a line, against the JSON Schemas of the standard and our own.

openlineage.py FOLDER OF THE STANDARD, FOLDER OF OUR OWN: prints how many events and facets it saw.
"""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

standard, own = map(pathlib.Path, sys.argv[1:])
files = [standard / "OpenLineage.json", *(standard / "facets").glob("*.json"), *own.glob("*.json")]
schemas = {}
for file in files:
    schema = json.loads(file.read_text())
    Draft202012Validator.check_schema(schema)
    schemas[schema["$id"]] = schema
registry = Registry().with_resources(
    (uri, Resource.from_contents(schema)) for uri, schema in schemas.items()
)


def check(reference, value):
    """The value against a schema by its URL, which must be one that is known."""
    assert reference.split("#")[0] in schemas, f"unknown schema {reference}"
    Draft202012Validator(
        {"$ref": reference}, registry=registry, format_checker=FormatChecker()
    ).validate(value)


events = facets = 0
seen = set()
for line in sys.stdin:
    event = json.loads(line)
    check("https://openlineage.io/spec/2-0-2/OpenLineage.json", event)
    check(event["schemaURL"], event)
    events += 1
    holders = [event["run"].get("facets"), event["job"].get("facets")]
    for dataset in event["inputs"] + event["outputs"]:
        holders += [dataset.get(name) for name in ("facets", "inputFacets", "outputFacets")]
    for holder in filter(None, holders):
        for name, facet in holder.items():
            check(facet["_schemaURL"], facet)
            # The file of the schema says under which name the facet stands.
            document = schemas[facet["_schemaURL"].split("#")[0]]
            assert name in document["properties"], f"{name} is not of {document['$id']}"
            seen.add(name)
            facets += 1
print(events, facets, " ".join(sorted(seen)))
