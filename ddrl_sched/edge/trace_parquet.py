"""Parquet files: sizes are checked in the footer, cells without a value, of another type or too long by row."""

import io
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ddrl_sched.config import InputError, clean, shown
from ddrl_sched.edge.input_file import MAX_TRACE_BYTES, first_line
from ddrl_sched.edge.trace_column import Column, Table, check_n_rows, check_names

MAX_CELL = 1000  # characters
BATCH = 100_000  # rows read at once
_FAULTS = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, UnicodeError)


def open_parquet(content: bytes, where: str) -> Table:
    """The table in a parquet file. Raises InputError that names the file."""
    try:
        footer = pq.ParquetFile(io.BytesIO(content))
        schema, n_rows = footer.schema_arrow, footer.metadata.num_rows
    except _FAULTS as error:
        raise InputError(f"{where}: is no sound parquet file ({first_line(error)})") from None
    check_n_rows(n_rows, where, header=False)
    check_names(schema.names, where)
    return Table(schema.names, where, partial(_read, content, where))


def _read(content: bytes, where: str, wanted: Sequence[str]) -> Mapping[str, Column]:
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        texts = [name for name in wanted if _kind(file.schema_arrow.field(name), where) == "text"]
        _check_size(file.metadata, wanted, where)
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)  # a text that stands often is held once
        batches, n_rows = [], 0
        for batch in file.iter_batches(BATCH, columns=list(wanted), use_threads=False):
            n_rows += batch.num_rows
            check_n_rows(max(n_rows, 2), where, header=False)
            batches.append(batch)
        table = pa.Table.from_batches(batches)
        check_n_rows(table.num_rows, where, header=False)
        return {name: _column(name, table[name], where) for name in wanted}
    except InputError:
        raise
    except _FAULTS as error:
        raise InputError(f"{where}: is no sound parquet file ({first_line(error)})") from None


def _check_size(footer: pq.FileMetaData, wanted: Sequence[str], where: str) -> None:
    """InputError if the wanted columns unpack to more than a trace file may have."""
    n_bytes = 0
    for i in range(footer.num_row_groups):
        group = footer.row_group(i)
        for j in range(group.num_columns):
            if group.column(j).path_in_schema in wanted:
                n_bytes += max(group.column(j).total_uncompressed_size, 0)
    if n_bytes > MAX_TRACE_BYTES:
        raise InputError(f"{where}: must be at most {MAX_TRACE_BYTES:,} bytes, unpacked; its columns have {n_bytes:,}")


def _kind(field: pa.Field, where: str) -> str:
    """number, text, date or timestamp. Raises InputError for another type."""
    held = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    kinds = {
        "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
        "text": (pa.types.is_string, pa.types.is_large_string),
        "date": (pa.types.is_date,),
        "timestamp": (pa.types.is_timestamp,),
    }
    for kind, tests in kinds.items():
        if any(test(held) for test in tests):
            return kind
    raise InputError(f"{where}: column {shown(field.name)} must hold numbers, texts or timestamps, got {clean(held)}")


def _column(name: str, cells: pa.ChunkedArray, where: str) -> Column:
    if cells.null_count:
        row = int(np.argmax(cells.is_null().to_numpy())) + 1
        raise InputError(f"{where}, row {row}: {clean(name)} has no value (null)")
    values, aware = _values(name, cells, where)
    return Column(name, pd.Series(values, dtype=values.dtype), aware, where, "row", 1)


def _values(name: str, cells: pa.ChunkedArray, where: str) -> tuple[NDArray[np.generic], bool]:
    """Cells as numpy array: numbers, texts (object) or datetime64; whether the last had a time zone."""
    if pa.types.is_dictionary(cells.type):
        if pa.types.is_string(cells.type.value_type) or pa.types.is_large_string(cells.type.value_type):
            return _texts(name, cells.unify_dictionaries().combine_chunks(), where), False
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_date(cells.type):
        cells = cells.cast(pa.timestamp("ms" if pa.types.is_date64(cells.type) else "s"))
    if pa.types.is_timestamp(cells.type):
        moments = cells.cast(pa.int64()).to_numpy().view(f"datetime64[{cells.type.unit}]")
        return moments, cells.type.tz is not None
    if pa.types.is_decimal(cells.type):
        cells = cells.cast(pa.float64())
    return cells.to_numpy(), False


def _texts(name: str, cells: pa.ChunkedArray, where: str) -> NDArray[np.object_]:
    chunk = cells.chunk(0) if isinstance(cells, pa.ChunkedArray) else cells
    words = chunk.dictionary
    at = chunk.indices.to_numpy()
    long = pc.greater(pc.utf8_length(words), MAX_CELL).to_numpy(zero_copy_only=False)
    if long.any() and long[at].any():
        row = int(np.argmax(long[at])) + 1
        raise InputError(f"{where}, row {row}: {clean(name)} must have at most {MAX_CELL} characters")
    return np.array([*words.to_pylist(), None], dtype=object)[:-1][at]
