"""Windows over each event's own past, by DuckDB's RANGE windows over a table in memory."""

import duckdb

from contender import serve
from windowed import LENGTHS, summary

# Instants are whole microseconds: DuckDB takes half the time over integers that it takes over
# timestamps. A window here is open at its beginning, `(t - length, t]`, and RANGE is closed at both
# ends; a range that is one microsecond shorter is the same window.
RANGES = ", ".join(
    f"{name} AS (PARTITION BY entity ORDER BY micros"
    f" RANGE BETWEEN {seconds * 1_000_000 - 1} PRECEDING AND CURRENT ROW)"
    for name, seconds in LENGTHS.items()
)

FUNCTIONS = {"count": "count", "sum": "sum", "mean": "avg", "min": "min", "max": "max"}

AGGREGATES = ", ".join(
    f"{function}(f0) OVER {window} AS {name}_{window}"
    for window in LENGTHS
    for name, function in FUNCTIONS.items()
)

QUERY = f"SELECT {AGGREGATES} FROM events WINDOW {RANGES}"


class DuckDb:
    def __init__(self):
        self.connection = duckdb.connect()
        # The order of the result's rows is not asked for.
        self.connection.execute("SET preserve_insertion_order = false")

    def load(self, _stopwatch, events):
        columns = "entity, epoch_us(e.at) AS micros, f0"
        table = f"CREATE TABLE events AS SELECT {columns} FROM read_parquet('{events}') e"
        self.connection.execute(table)

    def all(self, stopwatch):
        return summary(stopwatch.time(lambda: self.connection.sql(QUERY).to_arrow_table()))


serve(DuckDb())
