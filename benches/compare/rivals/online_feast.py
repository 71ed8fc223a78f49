"""Features online by Feast's SDK in this process: `online_feast.py sqlite` or `... redis ADDRESS`."""

import random
import sys
import tempfile
from datetime import datetime, timezone

from contender import serve
from feast_repository import columns, repository
from joined import FEATURES

VIEW = "ttl_none"


class Feast:
    def __init__(self, kind, address=None):
        self.kind = kind
        self.address = address
        self.random = random.Random(1)

    def materialize(self, stopwatch, events, entities, until_us):
        """Into a new store: what the last call wrote is given up."""
        self.entities = int(entities)
        self.folder = tempfile.TemporaryDirectory()
        if self.kind == "redis":
            online = {"type": "redis", "connection_string": self.address}
        else:
            online = {"type": "sqlite", "path": f"{self.folder.name}/online.db"}
        self.store = repository(self.folder.name, events, online)
        begin = datetime(1970, 1, 1, tzinfo=timezone.utc)
        until = datetime.fromtimestamp(int(until_us) / 1_000_000, timezone.utc)
        stopwatch.time(lambda: self.store.materialize(begin, until, [VIEW]))
        answer = self.ask(rows(range(self.entities)))
        return {
            "unmatched": answer[FEATURES[0]].count(None),
            "sum": float(sum(value or 0.0 for name in FEATURES for value in answer[name])),
        }

    def get(self, stopwatch, entities, calls):
        """So many calls, each for so many entities drawn at random."""
        for _ in range(int(calls)):
            chosen = rows(self.random.randrange(self.entities) for _ in range(int(entities)))
            stopwatch.time(lambda: self.ask(chosen))

    def ask(self, entity_rows):
        return self.store.get_online_features(columns(VIEW), entity_rows).to_dict()


def rows(entities):
    return [{"entity": entity} for entity in entities]


serve(Feast(*sys.argv[1:]))
