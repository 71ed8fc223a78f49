"""A Feast repository over one Parquet file of events."""

from datetime import timedelta

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

from joined import FEATURES

# Feast's TTL by our word for it.
TTL = {"none": None, "day": timedelta(days=1)}


def repository(folder, events, online_store):
    """A feature store kept in `folder`, with a view `ttl_none` and a view `ttl_day`."""
    store = FeatureStore(
        config=RepoConfig(
            project="compare",
            provider="local",
            registry=f"{folder}/registry.db",
            offline_store={"type": "duckdb"},
            online_store=online_store,
            entity_key_serialization_version=3,
        )
    )
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
    source = FileSource(path=events, timestamp_field="at")
    views = [
        FeatureView(
            name=f"ttl_{name}",
            entities=[entity],
            ttl=ttl,
            schema=[Field(name=feature, dtype=Float64) for feature in FEATURES],
            source=source,
        )
        for name, ttl in TTL.items()
    ]
    store.apply([entity, *views])
    return store


def columns(view):
    """All features of a view, as Feast names them."""
    return [f"{view}:{feature}" for feature in FEATURES]
