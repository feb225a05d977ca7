"""Tidy tables from files: CSV and Parquet, labels as they are written."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from watcher.errors import DataError

_ALWAYS_TEXT = ("arm", "metric", "feature", "unit", "release", "release_id", "group", "le", "version")
_NULLS = ["", "NaN", "nan", "NAN", "null", "NULL"]


def read_table(path: str | Path, *, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a tidy table from `.csv`, `.csv.gz` or `.parquet`.

    Args:
        path: the file.
        text: further columns of a CSV to read as text, where `1.10` and `007` must not become numbers.

    Raises:
        DataError: the file cannot be read, or is of no known kind, or needs the extra `parquet`.
    """
    path, name = Path(path), str(path)
    kind = path.name.lower()
    try:
        path.open("rb").close()
        if kind.endswith((".csv", ".csv.gz")):
            return _read_csv(path, {*_ALWAYS_TEXT, *text})
        if kind.endswith(".parquet"):
            return _read_parquet(path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=name) from error
    except (ValueError, TypeError, EOFError, zlib.error, NotImplementedError) as error:
        raise DataError(f"cannot be read: {str(error).strip().splitlines()[0]}", file=name) from error
    raise DataError("is of no known kind; a table is a .csv, .csv.gz or .parquet file", file=name)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        problem = "a Parquet file needs the extra `parquet`: pip install 'release-watcher[parquet]'"
        raise DataError(problem, file=str(path)) from error
    schema = pq.read_schema(path)
    words = [entry.name for entry in schema if pa.types.is_string(entry.type) or pa.types.is_large_string(entry.type)]
    frame: pd.DataFrame = pq.read_table(path, read_dictionary=words).to_pandas(ignore_metadata=True)
    return frame.drop(columns=[column for column in frame if str(column).startswith("__index_level_")])


def _read_csv(path: Path, words: Collection[str]) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.csv
    except ImportError:
        return _read_csv_slowly(path, words)
    options = pyarrow.csv.ConvertOptions(
        column_types={word: pa.dictionary(pa.int32(), pa.string()) for word in words},
        auto_dict_encode=True,
        auto_dict_max_cardinality=100_000,
        null_values=_NULLS,
        strings_can_be_null=True,
    )
    try:
        frame: pd.DataFrame = pyarrow.csv.read_csv(path, convert_options=options).to_pandas()
    except pa.ArrowInvalid:
        # Types are guessed from the first megabyte only; the slow reader sees all, and names the line that is wrong.
        return _read_csv_slowly(path, words)
    return frame


def _read_csv_slowly(path: Path, words: Collection[str]) -> pd.DataFrame:
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(words, str),
        keep_default_na=False,
        na_values=_NULLS,
        index_col=False,
        low_memory=False,
    )
