"""The rows of a run as they lie on disk: Parquet, each page with its checksum."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING

from sepbench.errors import UserError
from sepbench.results_checks import check_rows, run_json
from sepbench.results_format import FORMAT, RENAMED, renamed
from sepbench.scene import Row
from sepbench.storage import read_json, replacing

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from sepbench.statistics import Coded

ORDER = [(name, "ascending") for name in ("split", "scene", "source", "label", "metric")]
ROWS_AT_ONCE = 1 << 17  # in memory, and in a row group of the file


def read_rows(folder: Path) -> dict[str, np.ndarray]:
    """The rows of a finished run as one array per column of Row: (row,) each, strings as objects.

    UserError where it has none (statistics of labels alone), or where they cannot be read or are no figures.
    """
    columns = as_columns(row_table(folder))
    for old, new in _names(Path(folder)).items():
        columns["metric"][columns["metric"] == old] = new
    return columns


def _names(folder: Path) -> dict[str, str]:
    """What metrics are called now that an older format calls otherwise. All else in run.json is looked at by who reads runs."""
    file = folder / "run.json"
    held = read_json(file) if file.is_file() else {"format": FORMAT}
    known = isinstance(held, dict) and held.get("format") in (FORMAT, *RENAMED)
    return renamed(held if known else run_json(folder) or {"format": FORMAT})


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


def write_sorted(chunks: Sequence[Path], to: Path) -> int:
    """Write the rows of all `chunks` to the file `to`, in the order of ORDER; how many. Nothing is written of none.

    The same rows make the same file, whatever chunks they came in. They are held a part at a time where chunks follow one
    another, as they do where each holds scenes that lie side by side.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows, writer = 0, None
    first = sorted((_scenes_of(path), path) for path in chunks if pq.ParquetFile(path).metadata.num_rows)
    apart = all(one[1] < other[0] for (one, _), (other, _) in itertools.pairwise(first))
    paths = [path for _, path in first]
    if not paths:
        return 0
    tables = map(read_parquet, paths)
    in_order = (table.sort_by(ORDER) for table in (tables if apart else [pa.concat_tables(tables)]))
    with replacing(to) as file:
        for part in _parts(in_order):
            writer = writer or pq.ParquetWriter(file, part.schema, write_page_checksum=True)
            writer.write_table(part, row_group_size=ROWS_AT_ONCE)
            n_rows += part.num_rows
        if writer is not None:
            writer.close()
    return n_rows


def _scenes_of(chunk: Path) -> tuple[tuple[str, str], tuple[str, str]]:
    """The first and the last scene of a chunk, with their splits."""
    table = read_parquet(chunk, ["split", "scene"])
    keys = set(zip(table.column("split").to_pylist(), table.column("scene").to_pylist()))
    return min(keys), max(keys)


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables, one after the other, ROWS_AT_ONCE at a time."""
    import pyarrow as pa

    held = _schema().empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= ROWS_AT_ONCE:
            yield held.slice(0, ROWS_AT_ONCE).combine_chunks()
            held = held.slice(ROWS_AT_ONCE)
    if held.num_rows:
        yield held.combine_chunks()


def coded_rows(file: Path) -> tuple[dict[str, Coded], np.ndarray, np.ndarray]:
    """The rows of a file as `summarise_coded` wants them: words as codes, values, weights."""
    import numpy as np
    import pyarrow.parquet as pq

    from sepbench.statistics import CODED, Coded

    held = pq.ParquetFile(file, read_dictionary=list(CODED), page_checksum_verification=True)
    words: dict[str, dict[str, int]] = {name: {} for name in CODED}
    codes: dict[str, list[np.ndarray]] = {name: [] for name in CODED}
    numbers: dict[str, list[np.ndarray]] = {"value": [], "weight": []}
    for k in range(held.num_row_groups):
        part = held.read_row_group(k, columns=[*CODED, *numbers])
        for name in CODED:
            for chunk in part.column(name).chunks:
                known = [words[name].setdefault(word, len(words[name])) for word in chunk.dictionary.to_pylist()]
                codes[name].append(np.array(known, np.int32)[chunk.indices.to_numpy()])
        for name, columns in numbers.items():
            columns.append(part.column(name).to_numpy())
    found = {}
    for name in CODED:
        order = np.argsort(np.array(list(words[name])), kind="stable")
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        every = list(words[name])
        found[name] = Coded([every[i] for i in order], place[np.concatenate(codes[name])])
    return found, np.concatenate(numbers["value"]), np.concatenate(numbers["weight"])


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
