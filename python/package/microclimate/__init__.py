"""Microclimate in Python: exact rolling-window features of sensor readings, and a client.

The features are computed by the engine of the feature store itself, so a row from here equals
the row that the service stores and serves, to the last bit.

>>> import microclimate as mc
>>> rows = mc.features(frame)                      # polars, pandas, pyarrow, DuckDB …
>>> rows.to_polars()                               # a row for each zone and minute
>>> mc.metrics.deficit_kpa(24.0, 55.0)             # vapour-pressure deficit, kPa
1.342...
>>> mc.Client("http://127.0.0.1:8080").latest(zones=["farm/bay-1"])

Parts:

- :func:`features`, :class:`Engine`: readings to feature rows, at once or as a stream
- :func:`drying`: drying trend of each soil probe
- :mod:`microclimate.metrics`: formulas of growers
- :class:`Client`: readings, rows, data sets and predictions of a running Microclimate
- :func:`reports`: reports of ``trainer compare``
- :mod:`microclimate.spark`: features on Apache Spark, batch and streaming (imported by name)
"""

from . import metrics
from ._client import Client, ClientError, Records, reports
from ._engine import DefinitionsError, InputError, OrderError, SettingsError, SnapshotError
from ._features import Engine, Progress, SnapshotChanges, drying, features
from ._table import Table

__all__ = [
    "Client",
    "ClientError",
    "DefinitionsError",
    "Engine",
    "InputError",
    "OrderError",
    "Progress",
    "Records",
    "SettingsError",
    "SnapshotChanges",
    "SnapshotError",
    "Table",
    "drying",
    "features",
    "metrics",
    "reports",
]
__version__ = "0.2.0"
