"""Reads a DSSE envelope and the SLSA provenance in it.

in_toto.py KEYID PUBLIC-KEY-IN-HEX: the envelope comes on standard input; prints what it says.
"""

import json
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1 import statement_pb2
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

keyid, public = sys.argv[1:]
text = sys.stdin.read()


def key(public):
    return SSlibKey(keyid, "ed25519", "ed25519", {"public": public})


envelope = Envelope.from_dict(json.loads(text))
assert list(envelope.verify([key(public)], 1)) == [keyid]
try:
    Envelope.from_dict(json.loads(text)).verify([key("00" * 31 + "01")], 1)
    sys.exit("another key was accepted")
except VerificationError:
    pass
assert envelope.payload_type == "application/vnd.in-toto+json"

message = json_format.Parse(envelope.payload, statement_pb2.Statement())
statement = Statement.copy_from_pb(message)
statement.validate()
predicate = json_format.MessageToDict(message.predicate)
parsed = json_format.ParseDict(predicate, provenance_pb2.Provenance())
print(message.predicate_type)
print(message.subject[0].name, message.subject[0].digest["sha256"])
print(parsed.build_definition.external_parameters["algorithm"])
print(*(dependency.name for dependency in parsed.build_definition.resolved_dependencies))
print(parsed.run_details.builder.id, parsed.run_details.metadata.invocation_id)
print(parsed.run_details.metadata.started_on.ToJsonString())
