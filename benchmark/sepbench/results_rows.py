"""The rows of a run as they lie on disk: Parquet, each page with its checksum."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
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
TEXT = [f.name for f in fields(Row) if f.type == "str"]


def read_rows(
    folder: Path, metrics: Collection[str] | None = None, split: str | None = None
) -> dict[str, np.ndarray]:
    """The rows of a finished run as one array per column of Row: (row,) each, strings as objects.

    `metrics`, `split`: those alone. Rows are read a row group at a time and share their words, so that one takes some 60
    bytes. UserError where there are none (statistics of labels alone), or where they cannot be read or are no figures.
    """
    import numpy as np

    now = _names(Path(folder))
    found: dict[str, list[np.ndarray]] = {f.name: [] for f in fields(Row)}
    for part in row_parts(folder):
        metric, of_metric = _codes(part.column("metric"))
        metric = [now.get(name, name) for name in metric]
        wanted = [metrics is None or name in metrics for name in metric]
        kept = np.array(wanted, bool)[of_metric]
        if split is not None:
            splits, of_split = _codes(part.column("split"))
            kept &= np.array([name == split for name in splits], bool)[of_split]
        for name, parts in found.items():
            if name in TEXT:
                words, codes = (metric, of_metric) if name == "metric" else _codes(part.column(name))
                parts.append(np.array(words, object)[codes[kept]])
            else:
                number = np.int32 if name == "source" else np.float64
                parts.append(part.column(name).to_numpy()[kept].astype(number, copy=False))
    return {name: np.concatenate(found.pop(name)) for name in [*found]}  # the parts of a column go with it


def row_labels(folder: Path, split: str) -> set[str]:
    """The labels that a finished run's rows in `split` bear, "" where one bears none. Raises as `read_rows` does."""
    import numpy as np

    found: set[str] = set()
    for part in row_parts(folder):
        (splits, of_split), (labels, label) = (_codes(part.column(name)) for name in ("split", "label"))
        inside = np.array([name == split for name in splits], bool)[of_split]
        found.update(labels[k] for k in np.unique(label[inside]))
    return found


def _names(folder: Path) -> dict[str, str]:
    """What metrics are called now that an older format calls otherwise. All else in run.json is looked at by who reads runs."""
    file = folder / "run.json"
    held = read_json(file) if file.is_file() else {"format": FORMAT}
    known = isinstance(held, dict) and held.get("format") in (FORMAT, *RENAMED)
    return renamed(held if known else run_json(folder) or {"format": FORMAT})


def row_parts(folder: Path) -> Iterator[pa.Table]:
    """The rows of a finished run as they lie on disk, a row group at a time, text as codes. Raises as `read_rows` does."""
    file = Path(folder) / "rows.parquet"
    if not file.exists():
        raise UserError(f"{folder}: holds no rows (no rows.parquet). Name a finished run that was scored, or run its recipe anew "
                        "with --again.")  # fmt: skip
    for part in _row_groups(file):
        check_rows(file, part)
        yield part


def row_means(folder: Path) -> dict[tuple[str, str], float]:
    """(split, metric) -> the weighted mean of its rows, under the names they have on disk. Raises as `read_rows` does."""
    import numpy as np

    products: dict[tuple[str, str], float] = {}
    weights: dict[tuple[str, str], float] = {}
    for part in row_parts(folder):
        (splits, split), (metrics, metric) = (_codes(part.column(name)) for name in ("split", "metric"))
        value, weight = (part.column(name).to_numpy().astype(np.float64) for name in ("value", "weight"))
        key = split.astype(np.int64) * len(metrics) + metric
        for sums, each in ((products, value * weight), (weights, weight)):
            own = np.bincount(key, each)
            for k in np.unique(key):
                name = splits[k // len(metrics)], metrics[k % len(metrics)]
                sums[name] = sums.get(name, 0.0) + float(own[k])
    return {name: products[name] / total for name, total in weights.items() if total > 0}


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
    there = read_parquet(chunk, ["split", "scene"]).group_by(["split", "scene"]).aggregate([])
    keys = list(zip(there.column("split").to_pylist(), there.column("scene").to_pylist()))
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
    """The rows of a file as `summarise_coded` wants them: words as codes, values, weights; about 25 bytes a row."""
    import numpy as np

    from sepbench.statistics import CODED, Coded

    words: dict[str, dict[str, int]] = {name: {} for name in CODED}
    codes: dict[str, list[np.ndarray]] = {name: [] for name in CODED}
    numbers: dict[str, list[np.ndarray]] = {"value": [], "weight": []}
    for part in _row_groups(file, [*CODED, *numbers]):
        for name, known in words.items():
            own, own_codes = _codes(part.column(name))
            place = np.array([known.setdefault(word, len(known)) for word in own], np.int64)
            codes[name].append(place.astype(np.min_scalar_type(len(known)))[own_codes])
        for name, columns in numbers.items():
            columns.append(part.column(name).to_numpy())
    found = {}
    for name in CODED:
        every = list(words[name])
        order = np.argsort(np.array(every), kind="stable")
        place = np.empty(len(order), np.min_scalar_type(len(order)))
        place[order] = np.arange(len(order))
        found[name] = Coded([every[i] for i in order], np.concatenate([place[own] for own in codes.pop(name)]))
    return found, np.concatenate(numbers.pop("value")), np.concatenate(numbers.pop("weight"))


def _row_groups(file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A file of rows, a row group at a time and one without rows where it has none; text as codes. Raises as `read_parquet`."""
    import pyarrow.parquet as pq

    with _readable(file):
        held = pq.ParquetFile(file, read_dictionary=TEXT, page_checksum_verification=True)
        n_groups, empty = held.num_row_groups, held.schema_arrow.empty_table()
    for k in range(n_groups):
        with _readable(file):
            part = held.read_row_group(k, columns=None if columns is None else list(columns))
        yield part
    if not n_groups:
        yield empty


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The words of a column of text, and which of them stands in each row: (row,) int32."""
    import numpy as np
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    chunks = coded.unify_dictionaries().chunks
    if not chunks:
        return [], np.zeros(0, np.int32)
    return chunks[0].dictionary.to_pylist(), np.concatenate([each.indices.to_numpy() for each in chunks])


def as_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of the judge, as columns of Arrow."""
    import pyarrow as pa

    return pa.table({f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}, schema=_schema())


def as_parquet(table: pa.Table) -> bytes:
    """What is written to disk."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A file of rows. UserError naming it where it cannot be read, or where a page is not as it was written."""
    import pyarrow.parquet as pq

    with _readable(path):
        return pq.ParquetFile(path, page_checksum_verification=True).read(
            columns=None if columns is None else list(columns)
        )


def check_readable(folder: Path) -> None:
    """UserError where the rows of a run that was scored are gone or cut short; damage within is found by who reads them."""
    import pyarrow.parquet as pq

    file = folder / "rows.parquet"
    if not file.is_file():
        raise UserError(f"{file}: is gone, though the run is finished. Restore it, or run its recipe anew with --again.")
    with _readable(file):
        pq.ParquetFile(file).close()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """UserError naming the file where what reads it here cannot."""
    try:
        yield
    except (OSError, ValueError, NotImplementedError, KeyError, MemoryError) as error:  # as Arrow's errors are all called
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{path}: cannot be read: {reason}. Restore it, or run its recipe anew with --again.") from error


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = {"str": pa.string(), "int": pa.int32(), "float": pa.float64()}
    return pa.schema([(f.name, types[str(f.type)]) for f in fields(Row)])
