"""A lake of millions of CloudTrail rows, made of a simulated month.

The month goes the real road (simulated logs, ingest). Its rows are then multiplied: each copy is another
company, with its own accounts, addresses, keys, event and request ids and a shifted clock, written by the
lake itself in the sorted slices of a compacted day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from trailhawk.lake import Lake
from trailhawk.lake.merging import SLICE_ROWS
from trailhawk.lake.table import stored_schema
from trailhawk.simulate.run import simulate
from trailhawk.sources.cloudtrail import TABLE
from trailhawk.workspace import Workspace

DAYS = 30
LAST_DAY = dt.date(2026, 3, 31)
NOW = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
EVENTS_PER_DAY = 8_000

RARE = "198.18.7.77"
RARE_DAYS = (dt.date(2026, 3, 10), dt.date(2026, 3, 22))
COMMON = "198.18.9.99"
ABSENT = "198.18.200.201"

_ACCOUNTS = ("123456789012", "210987654321", "345678901234", "456789012345")
_TEXTS = ("RequestParameters", "ResponseElements", "Resources")


def lake_of(folder: Path, rows: int) -> Lake:
    """The lake of about so many rows in this folder; made where it is not there yet."""
    root = folder / f"lake-{rows}"
    lake = Lake(root / "lake", [TABLE])
    done = root / "done"
    if not done.exists():
        base = month(folder)
        delta = lake.delta(TABLE.name)
        delta.create()
        per_copy = base.snapshot(TABLE.name).rows
        copies = max(1, round(rows / per_copy))
        for number in range(DAYS):
            day = LAST_DAY - dt.timedelta(days=number)
            table = multiplied(base, day, copies)
            delta.commit([delta.stage_sorted(slices(table), day)])
            print(f"  {day}: {table.num_rows:,} rows", flush=True)
        done.touch()
    return lake


def month(folder: Path) -> Lake:
    """The simulated month as it was taken in."""
    home = folder / "month"
    workspace = Workspace.open(home)
    if not (home / "done").exists():
        simulate(
            "cloud-breach-s3",
            home / "simulated",
            days=DAYS,
            seed=1,
            events_per_day=EVENTS_PER_DAY,
            end=LAST_DAY,
        )
        workspace.ingest([home / "simulated" / "logs"], lambda _: None)
        (home / "done").touch()
    return workspace.lake


def slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, SLICE_ROWS):
        yield table.slice(start, SLICE_ROWS)


def multiplied(base: Lake, day: dt.date, copies: int) -> pa.Table:
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    files = base.snapshot(TABLE.name).files(start, start + dt.timedelta(days=1))
    paths = ", ".join(f"'{file.path}'" for file in files)
    seconds = "epoch_us(TimeGenerated) % 86400000000"
    shifted = f"(({seconds} + c * 1171000000) % 86400000000)"
    changes = {
        "TimeGenerated": f"TIMESTAMP '{day}' + to_microseconds({shifted})",
        "AwsEventId": "_id(AwsEventId, c)",
        "AwsRequestId_": "_id(AwsRequestId_, c)",
        "SourceIpAddress": _address(day),
        "UserIdentityAccessKeyId": "_key(UserIdentityAccessKeyId, c)",
        "UserIdentityPrincipalid": "_principal(UserIdentityPrincipalid, c)",
        "AdditionalEventData": (
            'replace(AdditionalEventData, \'"x-amz-id-2":"\', '
            "'\"x-amz-id-2\":\"' || left(_hex(AwsEventId, c), 16) || '+')"
        ),
        "_th_id": "CAST(hash(_th_id, c) >> 1 AS BIGINT)",
        "_th_payload": "CAST(hash(_th_payload, c) >> 1 AS BIGINT)",
    }
    for column in TABLE.columns:
        if "Account" in column.name or "Arn" in column.name:
            changes[column.name] = f'_accounts("{column.name}", c)'
    for column in _TEXTS:
        changes[column] = f"_accounts(_keyed({column}, _th_RequestParameters_key, AwsEventId, c), c)"
    for promoted in TABLE.promoted:
        if promoted.path[-1] in ("arn", "roleArn", "policyArn"):
            changes[promoted.hidden] = f'_accounts("{promoted.hidden}", c)'
        elif promoted.path == ("key",):
            changes[promoted.hidden] = f'_accounts(_renamed("{promoted.hidden}", AwsEventId, c), c)'
    names = stored_schema(TABLE).names
    items = ", ".join(f'{changes.get(name, _quoted(name))} AS "{name}"' for name in names)
    with duckdb.connect() as connection:
        for macro in _macros():
            connection.execute(macro)
        found = connection.sql(
            f"SELECT {items} FROM (SELECT * FROM read_parquet([{paths}], hive_partitioning=false) "
            f"WHERE TimeGenerated >= TIMESTAMP '{day}' "
            f"AND TimeGenerated < TIMESTAMP '{day}' + INTERVAL 1 DAY), "
            f"range({copies}) AS copy(c) ORDER BY 1"
        ).to_arrow_table()
    return found.select(names).cast(stored_schema(TABLE))


def _quoted(name: str) -> str:
    return f'"{name}"'


def _address(day: dt.date) -> str:
    """The caller's address: of its own in each copy, or one of the needles."""
    rare = f"WHEN c = 0 AND _place = 7 THEN '{RARE}'" if day in RARE_DAYS else ""
    case = f"CASE {rare} WHEN _place % 500 = 3 THEN '{COMMON}' ELSE _moved(SourceIpAddress, c) END"
    return case.replace("_place", "(hash(AwsEventId, c) % 5000)")


def _macros() -> tuple[str, ...]:
    accounts = "t"
    for account in _ACCOUNTS:
        other = f"printf('%012d', {account} + 1000003 * c)"
        accounts = f"replace({accounts}, '{account}', {other})"
    hashed = "CREATE MACRO _hex(t, c) AS md5(t || c::VARCHAR)"
    moved_accounts = f"CREATE MACRO _accounts(t, c) AS CASE WHEN c = 0 OR t = '' THEN t ELSE {accounts} END"
    # An id keeps its shape: 20 of 36 characters of a UUID are new, all of a short one.
    ids = """CREATE MACRO _id(t, c) AS CASE WHEN c = 0 OR t = '' THEN t
        WHEN length(t) = 36 THEN left(_hex(t, c), 8) || t[9:23] || '-' || right(_hex(t, c), 12)
        ELSE upper(left(_hex(t, c), 16)) END"""
    keys = """CREATE MACRO _key(t, c) AS CASE WHEN c = 0 OR length(t) < 16 THEN t
        ELSE t[1:4] || upper(left(_hex(t, c), 16)) END"""
    # AROA...:i-0123 and the like: the id before the colon, and an instance's after it.
    principals = """CREATE MACRO _principal(t, c) AS CASE WHEN c = 0 OR t = '' THEN t
        WHEN contains(t, ':i-') THEN _key(split_part(t, ':', 1), c) || ':i-' || left(_hex(t, c), 17)
        WHEN contains(t, ':') THEN _key(split_part(t, ':', 1), c) || ':' || split_part(t, ':', 2)
        ELSE _key(t, c) END"""
    addresses = """CREATE MACRO _moved(t, c) AS CASE WHEN c = 0 OR NOT regexp_full_match(t, '[0-9.]+') THEN t
        ELSE split_part(t, '.', 1) || '.' || split_part(t, '.', 2) || '.' || (hash(t, c) % 256) || '.'
        || (hash(t, c) // 256 % 256) END"""
    # The key of a row in a database is an object, which stays: with a prefix it would be no JSON.
    renamed = """CREATE MACRO _renamed(key, id, c) AS
        CASE WHEN c = 0 OR starts_with(key, '{') THEN key ELSE left(_hex(id, c), 10) || '-' || key END"""
    objects = """CREATE MACRO _keyed(t, key, id, c) AS
        CASE WHEN key IS NULL OR c = 0 THEN t ELSE replace(t, key, _renamed(key, id, c)) END"""
    return hashed, moved_accounts, ids, keys, principals, addresses, renamed, objects
