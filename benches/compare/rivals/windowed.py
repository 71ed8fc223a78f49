"""What windows found, in a few numbers that do not depend on the order of the rows."""

import pyarrow.compute as compute

# The lengths of the windows, in seconds.
LENGTHS = {"hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000}
NAMES = ["count", "sum", "mean", "min", "max"]


def summary(table):
    """The sum of every column of an Arrow table that is named `count_hour`, and so on, and of a product."""
    found = {"rows": table.num_rows}
    for window in LENGTHS:
        for name in NAMES:
            column = f"{name}_{window}"
            found[column] = float(compute.sum(table.column(column)).as_py())
    # Whether columns belong to the same rows; still exact.
    cross = compute.multiply(table.column("max_day"), table.column("count_week"))
    found["cross"] = float(compute.sum(cross).as_py())
    return found
