"""Reads features with Feast's own client: as a user of Feast would who has pointed
`online_store: {type: remote}` at Microclimate. Prints what it got as JSON.

    python scripts/feast_client.py http://127.0.0.1:8082 farm/bay-1,farm/none temperature_last,co2_last
"""

import json
import sys
import tempfile
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType


def store(folder: Path, url: str, names: list[str]) -> FeatureStore:
    config = RepoConfig(
        project="microclimate",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store={"type": "remote", "path": url},
        offline_store={"type": "dask"},
        entity_key_serialization_version=3,
    )
    zone = Entity(name="zone", join_keys=["zone"], value_type=ValueType.STRING)
    # Feast wants a source to materialise from; here nothing has to be materialised.
    source = FileSource(path=str(folder / "unused.parquet"), timestamp_field="event_timestamp")
    view = FeatureView(
        name="climate",
        entities=[zone],
        ttl=timedelta(days=0),
        schema=[Field(name=name, dtype=Float64) for name in names],
        source=source,
    )
    feast = FeatureStore(config=config)
    feast.apply([zone, view])
    return feast


def main(url: str, zones: list[str], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        feast = store(Path(folder), url, names)
        answer = {"feast": version("feast")}
        for full in (False, True):
            found = feast.get_online_features(
                features=[f"climate:{name}" for name in names],
                entity_rows=[{"zone": zone} for zone in zones],
                full_feature_names=full,
            )
            answer["full" if full else "short"] = found.to_dict()
        # The other way in, which `feast serve` and push sources use: by entity key.
        view = feast.get_feature_view("climate")
        keys = [key(zone) for zone in zones]
        rows = feast._get_provider().online_read(feast.config, view, keys, names)
        answer["rows"] = [
            {name: value.double_val if value.HasField("double_val") else None for name, value in row.items()}
            for _, row in rows
        ]
        print(json.dumps(answer))


def key(zone: str):
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=["zone"], entity_values=[Value(string_val=zone)])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(","))
