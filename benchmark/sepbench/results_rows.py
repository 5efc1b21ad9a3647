"""The rows of a run as they lie on disk: Parquet, each page with its checksum."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING

from sepbench.errors import UserError
from sepbench.results_checks import check_rows, run_json
from sepbench.results_format import FORMAT, renamed
from sepbench.scene import Row

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def read_rows(folder: Path) -> dict[str, np.ndarray]:
    """The rows of a finished run as one array per column of Row: (row,) each, strings as objects.

    UserError where it has none (statistics of labels alone), or where they cannot be read or are no figures.
    """
    columns = as_columns(row_table(folder))
    names = renamed(run_json(Path(folder)) or {"format": FORMAT})
    for old, new in names.items():
        columns["metric"][columns["metric"] == old] = new
    return columns


def row_table(folder: Path) -> pa.Table:
    """The rows of a finished run as they lie on disk. Raises as `read_rows` does."""
    file = Path(folder) / "rows.parquet"
    if not file.exists():
        raise UserError(f"{folder}: holds no rows (no rows.parquet). Name a finished run that was scored.")
    table = read_parquet(file)
    check_rows(file, table)
    return table


def row_means(folder: Path) -> dict[tuple[str, str], float]:
    """(split, metric) -> the weighted mean of its rows, under the names they have on disk. Raises as `read_rows` does."""
    import pyarrow.compute as pc

    rows = row_table(folder)
    value, weight = (pc.cast(rows.column(name), "float64") for name in ("value", "weight"))
    table = (
        rows.select(["split", "metric"])
        .append_column("weight", weight)
        .append_column("product", pc.multiply(value, weight))
    )
    sums = table.group_by(["split", "metric"]).aggregate([("product", "sum"), ("weight", "sum")])
    found = zip(*(sums.column(name).to_pylist() for name in ("split", "metric", "product_sum", "weight_sum")))
    return {(split, metric): product / total for split, metric, product, total in found if total > 0}


def joined(files: Iterable[Path]) -> pa.Table:
    """The rows of several files, one after the other."""
    import pyarrow as pa

    return pa.concat_tables([_schema().empty_table(), *map(read_parquet, files)])


def as_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of the judge, as columns of Arrow."""
    import pyarrow as pa

    columns = dict(zip((f.name for f in fields(Row)), zip(*map(astuple, rows)))) if rows else {}
    return pa.table({name: list(columns.get(name, ())) for name in _schema().names}, schema=_schema())


def as_parquet(table: pa.Table) -> bytes:
    """What is written to disk."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A file of rows. UserError naming it where it cannot be read, or where a page is not as it was written."""
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(
            columns=None if columns is None else list(columns)
        )
    except (
        OSError,
        ValueError,
        NotImplementedError,
        KeyError,
        MemoryError,
    ) as error:  # as Arrow's errors are all called
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{path}: cannot be read: {reason}. Remove it and run again, or restore it.") from error


def as_columns(table: pa.Table) -> dict[str, np.ndarray]:
    """One array per column, strings as objects."""
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = {"str": pa.string(), "int": pa.int32(), "float": pa.float64()}
    return pa.schema([(f.name, types[str(f.type)]) for f in fields(Row)])
