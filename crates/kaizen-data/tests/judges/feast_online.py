"""Asks a feature server with Feast's own client, and prints what it got as JSON.

The first argument is the server's address. The client is the one that Feast users have in their
services: its `RemoteOnlineStore`, through a `FeatureStore` of Feast's that knows the same views.
"""

import json
import logging
import sys
import tempfile
import warnings
from datetime import datetime, timedelta, timezone

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.errors import FeastError
from feast.infra.online_stores.remote import RemoteOnlineStore
from feast.infra.key_encoding_utils import serialize_entity_key  # noqa: F401 (it must be there)
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.types import Bool, Float64, Int64, String

address, folder = sys.argv[1], tempfile.mkdtemp()
config = RepoConfig(
    registry=f"{folder}/registry.db",
    project="judge",
    provider="local",
    online_store={"type": "remote", "path": address},
    entity_key_serialization_version=3,
)
store = FeatureStore(config=config)
source = FileSource(name="rows", path=f"{folder}/rows.parquet", timestamp_field="event_timestamp")
driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
route = Entity(name="route", join_keys=["origin"], value_type=ValueType.STRING)
stats = FeatureView(
    name="stats",
    entities=[driver],
    ttl=timedelta(hours=1),
    schema=[
        Field(name="trips", dtype=Int64),
        Field(name="rating", dtype=Float64),
        Field(name="name", dtype=String),
        Field(name="active", dtype=Bool),
    ],
    source=source,
)
weather = FeatureView(
    name="weather",
    entities=[route],
    ttl=timedelta(0),
    schema=[Field(name="wind", dtype=Float64), Field(name="rating", dtype=Float64)],
    source=FileSource(name="rows2", path=f"{folder}/rows2.parquet", timestamp_field="event_timestamp"),
)
service = FeatureService(name="dispatch", features=[stats])
store.registry.apply_entity(driver, "judge")
store.registry.apply_entity(route, "judge")
store.registry.apply_feature_view(stats, "judge")
store.registry.apply_feature_view(weather, "judge")
store.registry.apply_feature_service(service, "judge")

out = {}


def fields(response):
    """Values and statuses by name, from Feast's own message."""
    names = response.proto.metadata.feature_names.val
    values = response.to_dict()
    return {
        name: {"values": values[name], "statuses": list(column.statuses)}
        for name, column in zip(names, response.proto.results)
    }


# The way of most users: `get_online_features`, by references and by service.
out["references"] = fields(
    store.get_online_features(
        features=["stats:trips", "stats:rating", "stats:name", "stats:active"],
        entity_rows=[{"driver_id": key} for key in (1, 2, 3, 9)],
    )
)
out["service"] = fields(
    store.get_online_features(
        features=store.get_feature_service("dispatch"),
        entity_rows=[{"driver_id": key} for key in (1, 9)],
    )
)
out["full_names"] = fields(
    store.get_online_features(
        features=["stats:rating", "weather:rating", "weather:wind"],
        entity_rows=[{"driver_id": 1, "origin": "JFK"}, {"driver_id": 2, "origin": "EWR"}],
        full_feature_names=True,
    )
)

# The way of Feast's own feature server when it stands before another: one view, by entity key.
keys = [EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=key)]) for key in (1, 2, 9)]
rows = RemoteOnlineStore().online_read(config, stats, keys, ["trips", "rating", "name", "active"])
out["online_read"] = [
    {
        name: getattr(value, value.WhichOneof("val")) if value.WhichOneof("val") else None
        for name, value in features.items()
    }
    for _, features in rows
]
out["event_timestamp"] = rows[0][0].isoformat()


def error(call):
    try:
        call()
    except FeastError as raised:
        return [type(raised).__name__, str(raised)]
    except Exception as raised:
        return [type(raised).__name__, str(raised)]
    return None


remote = RemoteOnlineStore()
ask = lambda features, entities: remote.get_online_features(config, features, entities, None, "judge")
out["no_service"] = error(lambda: ask(FeatureService(name="none", features=[]), {"driver_id": [1]}))
out["no_view"] = error(lambda: ask(["none:trips"], {"driver_id": [1]}))
out["collision"] = error(lambda: ask(["stats:rating", "weather:rating"], {"driver_id": [1], "origin": ["JFK"]}))
out["bad_key"] = error(lambda: ask(["stats:trips"], {"driver_id": ["one"]}))
out["unequal"] = error(lambda: ask(["stats:trips"], {"driver_id": [1], "origin": ["JFK", "EWR"]}))

print(json.dumps(out))
