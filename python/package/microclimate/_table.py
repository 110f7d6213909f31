"""Arrow tables, and the frames that become them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from . import _engine
from ._engine import InputError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


@runtime_checkable
class ArrowStream(Protocol):
    """Anything with the Arrow PyCapsule interface: polars, pandas ≥ 2.2, pyarrow, DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


def as_stream(frame: Any) -> ArrowStream:
    """Returns the frame, or says why it cannot be read."""
    if hasattr(frame, "collect_schema") and hasattr(frame, "collect"):
        # A polars LazyFrame has no stream of its own before it is collected.
        frame = frame.collect()
    if isinstance(frame, ArrowStream):
        return frame
    raise InputError(
        f"a {type(frame).__module__}.{type(frame).__qualname__} is not a frame, expected one with "
        "__arrow_c_stream__: polars, pandas 2.2 or later, pyarrow, DuckDB"
    )


class Table:
    """An Arrow table, without a copy for libraries that read Arrow.

    ``pyarrow.table(t)``, ``polars.DataFrame(t)`` and ``duckdb.from_arrow(t)`` work as they are.
    """

    def __init__(self, native: _engine.RowTable) -> None:
        self._native = native

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._native.num_rows

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return self._native.column_names

    @property
    def schema_hash(self) -> str | None:
        """Hash of definitions and columns, which models compare; ``None`` for other tables."""
        return self._native.metadata.get("microclimate.schema_hash")

    def to_arrow(self) -> pyarrow.Table:
        """The table as ``pyarrow.Table``."""
        import pyarrow

        return pyarrow.table(self._native)

    def to_polars(self) -> polars.DataFrame:
        """The table as ``polars.DataFrame``."""
        import polars

        return polars.DataFrame(self._native)

    def to_pandas(self) -> pandas.DataFrame:
        """The table as ``pandas.DataFrame``; needs pyarrow."""
        return self.to_arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._native.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return f"<microclimate.Table: {self.num_rows} rows × {len(self.column_names)} columns>"
