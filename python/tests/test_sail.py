"""Sail: Spark's DataFrame API without a JVM."""

import random

import pytest
from rooms import assert_same_rows, simulated_rooms

import microclimate as mc

pytest.importorskip("pysail")
pytest.importorskip("pyspark")
from spark_session import in_milliseconds  # noqa: E402

from microclimate import spark as mcs  # noqa: E402

RECEIVED_MS = 1_764_500_000_000


@pytest.fixture(scope="module")
def sail():
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer(ip="127.0.0.1", port=0)
    server.start()
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
    yield session
    session.stop()
    server.stop()


@pytest.mark.parametrize("late", [False, True])
def test_rows_of_a_table_equal_those_of_python(sail, late):
    table = simulated_rooms(late=late)
    mixed = table.take(random.Random(5).sample(range(table.num_rows), table.num_rows))
    rows = mcs.features(sail.createDataFrame(mixed.to_pandas()), received=RECEIVED_MS).toPandas()
    import pyarrow as pa

    found = pa.Table.from_pandas(rows, preserve_index=False)
    if found.schema.field("time").type.tz is None:
        at = found.schema.get_field_index("time")
        found = found.set_column(
            at, "time", found["time"].cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
        )
    assert_same_rows(in_milliseconds(found), mc.features(table, order="sort", received=RECEIVED_MS))
