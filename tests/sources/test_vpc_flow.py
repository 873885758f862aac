"""VPC Flow: any fields in any order, with and without header, as text and as Parquet."""

import datetime as dt
import gzip
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.sources import SOURCES
from trailhawk.sources import parquet as parquet_reader
from trailhawk.sources.parquet_pages import unfolded
from trailhawk.sources.source import BadPart
from trailhawk.sources.vpc_flow import VpcFlow

HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status"
)
LINE = "2 011122223333 eni-0a 10.0.0.1 203.0.113.9 51000 443 6 20 4249 1772357400 1772357460 ACCEPT OK"
ROW = {
    "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
    "Start": dt.datetime(2026, 3, 1, 9, 30),
    "End": dt.datetime(2026, 3, 1, 9, 31),
    "Version": 2,
    "AccountId": "011122223333",
    "InterfaceId": "eni-0a",
    "SrcAddr": "10.0.0.1",
    "DstAddr": "203.0.113.9",
    "SrcPort": 51000,
    "DstPort": 443,
    "Protocol": 6,
    "Packets": 20,
    "Bytes": 4249,
    "Action": "ACCEPT",
    "LogStatus": "OK",
}


def text(*lines: str) -> bytes:
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    "data",
    [
        text(HEADER, LINE),
        text(LINE),
        text(HEADER, LINE, ""),
        text("", LINE, "", ""),
        text(HEADER, LINE).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text(HEADER, LINE),
        text(HEADER, LINE.replace(" ", "  ")),
        text(LINE + " "),
        gzip.compress(text(HEADER, LINE)),
        json.dumps({"message": LINE}).encode(),
        f"2026-03-01T09:31:00.000Z {LINE}\n".encode(),
        json.dumps(
            {
                "messageType": "DATA_MESSAGE",
                "logGroup": "flow",
                "logStream": "eni-0a-all",
                "logEvents": [{"id": "1", "timestamp": 1772357400000, "message": LINE}],
            }
        ).encode(),
    ],
)
def test_every_wrapping_of_the_default_format_gives_the_same_row(data: bytes, read: Any) -> None:
    found = read(data)
    assert (found.source, found.rows, found.reasons) == ("vpcflow", [ROW], [])


def test_the_header_says_what_stands_where_and_may_come_again(read: Any) -> None:
    data = text(
        "vpc-id version interface-id srcaddr dstaddr start end log-status tcp-flags flow-direction",
        "vpc-1 3 eni-0a 10.0.0.1 2001:db8::9 1772357400 1772357460 OK 19 egress",
        "vpc-id version interface-id srcaddr dstaddr start end log-status tcp-flags flow-direction",
        "vpc-1 3 eni-0b - - 1772357400 1772357460 NODATA - -",
        HEADER,
        LINE,
    )
    found = read(data)
    assert found.reasons == []
    assert [row["InterfaceId"] for row in found.rows] == ["eni-0a", "eni-0b", "eni-0a"]
    first, second, third = found.rows
    assert (first["VpcId"], first["TcpFlags"], first["DstAddr"]) == ("vpc-1", 19, "2001:db8::9")
    assert first["FlowDirection"] == "egress"
    assert second["LogStatus"] == "NODATA"
    assert not {"SrcAddr", "TcpFlags", "FlowDirection"} & second.keys()
    assert third == ROW


def test_later_versions_and_transit_gateways_keep_what_has_no_column(read: Any) -> None:
    data = text(
        "version resource-type account-id tgw-id srcaddr dstaddr start end ecs-cluster-name reject-reason "
        "new-field",
        "8 TransitGateway 011122223333 tgw-1 10.0.0.1 10.1.0.1 1772357400 1772357460 pay BPA é",
        "8 TransitGateway 011122223333 tgw-1 10.0.0.1 10.1.0.1 1772357400 1772357460 - - -",
    )
    first, second = read(data).rows
    assert (first["Version"], first["EcsClusterName"]) == (8, "pay")
    assert json.loads(first["_th_rest"]) == {
        "resource-type": "TransitGateway",
        "tgw-id": "tgw-1",
        "reject-reason": "BPA",
        "new-field": "é",
    }
    assert json.loads(second["_th_rest"]) == {"resource-type": "TransitGateway", "tgw-id": "tgw-1"}


GATEWAY = (
    "6 TransitGateway 011122223333 tgw-0a tgw-attach-0b 011122223333 - vpc-1 vpc-2 - - eni-1 eni-2 a1 a2 "
    "tgw-attach-0c 10.0.0.1 2001:db8::9 51000 443 6 20 4249 1772357400 1772357460 OK IPv6 1 - - - 2 "
    "eu-central-1 ingress - S3"
)


def test_a_transit_gateways_default_format_needs_no_header(read: Any) -> None:
    for data in (text(GATEWAY, GATEWAY), f"2026-03-01T09:31:00.000Z {GATEWAY}\n".encode() * 2):
        found = read(data)
        assert (found.source, len(found.rows), found.reasons) == ("vpcflow", 2, [])
        row = found.rows[0]
        assert (row["SrcAddr"], row["DstAddr"], row["DstPort"]) == ("10.0.0.1", "2001:db8::9", 443)
        assert (row["Start"], row["Bytes"]) == (ROW["Start"], 4249)
        assert (row["TrafficType"], row["TcpFlags"], row["FlowDirection"]) == ("IPv6", 2, "ingress")
        assert (row["PktDstAwsService"], row["Region"], "PktSrcAwsService" in row) == (
            "S3",
            "eu-central-1",
            False,
        )
        rest = json.loads(row["_th_rest"])
        assert (rest["tgw-id"], rest["tgw-dst-eni"], rest["packets-lost-no-route"]) == (
            "tgw-0a",
            "eni-2",
            "1",
        )
    # As many fields of another kind are not taken for it, and the user's format goes before it.
    other = GATEWAY.replace("tgw-0a", "eni-0a")
    assert read(text(LINE, other)).reasons == ["not a flow log record: 36 fields, and no header says which"]
    names = [f"f{n}" for n in range(34)]
    mine = VpcFlow([("version", "start", *names)])
    assert read(text(LINE, GATEWAY), source=mine).reasons == ["start is no number: 'TransitGateway'"]


def test_nodata_skipdata_and_icmp(read: Any) -> None:
    data = text(
        "2 011122223333 eni-0a - - - - - - - 1431280876 1431280934 - NODATA",
        "2 unknown - - - - - - - - 1431280876 1431280934 - SKIPDATA",
        "2 011122223333 eni-0a 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK",
    )
    first, second, third = read(data).rows
    assert not {"SrcAddr", "SrcPort", "Bytes", "Action"} & first.keys()
    assert (second["AccountId"], second["LogStatus"]) == ("unknown", "SKIPDATA")
    assert (third["SrcPort"], third["DstPort"], third["Protocol"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("1772357400", "-1"), "start is no number: '-1'"),
        (("1772357400", "164000066"), "start is no time: '164000066'"),
        (("1772357400", "99999999999"), "start is no time: '99999999999'"),
        (("51000", "0x1F"), "srcport is no number: '0x1F'"),
        (("51000", "5000000000"), "srcport is no number: '5000000000'"),
        (("4249", "9" * 30), f"bytes is no number: {'9' * 30!r}"),
        (("ACCEPT OK", "ACCEPT"), "not a flow log record: 13 fields, and no header says which"),
        (("eni-0a", "eni 0a"), "not a flow log record: 15 fields, and no header says which"),
        (("eni-0a", "eni\x000a"), "not a flow log record: a control character in the line"),
        (("eni-0a", "eni\r0a"), "not a flow log record: a control character in the line"),
    ],
)
def test_a_bad_line_costs_only_itself(change: tuple[str, str], reason: str, read: Any) -> None:
    found = read(text(LINE, LINE.replace(*change, 1), LINE))
    assert found.rows == [ROW, ROW]
    assert found.reasons == [reason]
    assert found.bad[0].start == len(LINE) + 1


def test_text_that_is_not_utf8_costs_its_line(read: Any) -> None:
    found = read(text(LINE) + b"\n" + LINE.encode().replace(b"eni-0a", b"eni-\xff") + b"\n" + text(LINE))
    assert found.rows == [ROW, ROW]
    assert found.reasons == ["not a flow log record: not UTF-8"]


def test_a_value_that_is_split_over_two_fields_does_not_shift_the_others(read: Any) -> None:
    head = "version interface-id start end pkt-src-aws-service flow-direction"
    found = read(text(head, "5 eni-0a 1772357400 1772357460 AMAZON CLOUDFRONT ingress"))
    assert (found.rows, found.reasons) == ([], ["not a flow log record: 7 values for 6 fields"])


def test_both_times_missing_is_bad_and_one_is_enough(read: Any) -> None:
    head = "interface-id srcaddr dstaddr start end"
    found = read(text(head, "eni-0a 10.0.0.1 10.0.0.2 - 1772357460", "eni-0b 10.0.0.1 10.0.0.2 - -"))
    assert [row["TimeGenerated"] for row in found.rows] == [dt.datetime(2026, 3, 1, 9, 31)]
    assert found.reasons == ["no start"]


def test_a_header_that_names_a_field_twice_is_set_aside(read: Any) -> None:
    found = read(
        text(HEADER, LINE, "version start end end", "2 1772357400 1772357460 1772357460", HEADER, LINE)
    )
    assert found.rows == [ROW, ROW]
    assert "a header that names a field twice" in found.reasons


def test_a_line_without_header_is_read_by_a_format_of_the_user(read: Any) -> None:
    line = "5 eni-0a 10.0.0.1 10.0.0.2 1772357400 1772357460"
    assert read(text(line)).source == ""
    mine = VpcFlow([("version", "interface-id", "srcaddr", "dstaddr", "start", "end")])
    assert mine.recognises("logs/object", line.encode())
    found = read(text(line, LINE), source=mine)
    assert [(row["InterfaceId"], row["Version"]) for row in found.rows] == [("eni-0a", 5), ("eni-0a", 2)]


@pytest.mark.parametrize("block", [64, 1000, 4096])
def test_an_object_larger_than_a_block_is_streamed(block: int, read: Any) -> None:
    found = read(text(HEADER, *[LINE] * 300), block=block, source=VpcFlow())
    assert found.rows == [ROW] * 300


def parquet(columns: Mapping[str, object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="snappy", row_group_size=2)
    return file.getvalue()


def test_parquet(read: Any) -> None:
    data = parquet(
        {
            "version": pa.array([2, 2, 5], pa.int32()),
            "account_id": ["011122223333", "011122223333", None],
            "interface_id": ["eni-0a", "eni 0b", "eni-0c"],
            "srcaddr": ["10.0.0.1", None, ""],
            "start": pa.array([1772357400, 1772357400, None], pa.int64()),
            "end": pa.array([1772357460] * 3, pa.int64()),
            "bytes": pa.array([2**40, None, 1], pa.int64()),
            "pkt_src_aws_service": ["AMAZON CLOUDFRONT", None, None],
            "reject_reason": ["BPA", None, None],
        }
    )
    found = read(data)
    assert (found.source, found.reasons) == ("vpcflow", [])
    first, second, third = found.rows
    assert (first["Bytes"], first["AccountId"]) == (2**40, "011122223333")
    assert first["PktSrcAwsService"] == "AMAZON_CLOUDFRONT"
    assert json.loads(first["_th_rest"]) == {"reject-reason": "BPA"}
    assert (second["InterfaceId"], "SrcAddr" in second) == ("eni_0b", False)
    assert third["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 31)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_of_a_query_has_the_names_of_its_table(unit: str, read: Any) -> None:
    names = (
        "version account interfaceid sourceaddress destinationaddress sourceport destinationport protocol "
        "numpackets numbytes starttime endtime action logstatus"
    )
    columns: dict[str, object] = {
        name: [value] for name, value in zip(names.split(), LINE.split(), strict=True)
    }
    columns["starttime"] = pa.array([ROW["Start"]], pa.timestamp(unit))
    columns["endtime"] = pa.array([ROW["End"]], pa.timestamp(unit, "UTC"))
    found = read(parquet(columns), name="tables/0f0c/20260301_093000_00001_bucket-00000")
    assert (found.source, found.rows, found.reasons) == ("vpcflow", [ROW], [])
    # Columns of the table's own may be named and stand anyhow.
    columns["account_id"] = columns.pop("account")
    columns = {"Day": ["01"], "account": ["blue"], "_col0": [7], "Größe": ["x"], **columns}
    (row,) = read(parquet(columns)).rows
    assert json.loads(row.pop("_th_rest")) == {"day": "01", "account": "blue", "col0": "7", "gre": "x"}
    assert row == ROW


@pytest.mark.parametrize("data", [gzip.compress(text(HEADER, LINE)), text(HEADER, LINE)])
def test_paths_as_hive_has_them(data: bytes, read: Any) -> None:
    name = (
        "AWSLogs/aws-account-id=011122223333/aws-service=vpcflowlogs/aws-region=eu-central-1/year=2026/"
        "month=03/day=01/hour=09/011122223333_vpcflowlogs_eu-central-1_fl-1_20260301T0930Z_0a.log"
    )
    assert read(data, name=name).rows == [ROW]


def test_parquet_that_is_none_of_ours_is_set_aside_whole(read: Any) -> None:
    good = parquet({"interface_id": ["eni-0a"], "start": [1772357400], "srcaddr": ["10.0.0.1"]})
    assert read(parquet({"a": [1]})).source == "", "another's columns"
    (chunk,) = VpcFlow().chunks(iter([parquet({"a": [1]})]))
    assert "it has not the columns of a flow log" in chunk.bad[0].reason
    for data in (good[:60], good[:-9] + b"\0\0\0\0\0PAR1", b"PAR1" + b"\xff" * 100):
        found = read(data)
        assert (found.source, found.rows, len(found.bad)) == ("vpcflow", [], 1)
        assert (found.bad[0].start, found.bad[0].size) == (0, len(data))
        assert found.reasons[0].startswith("Parquet that cannot be read")


def test_parquet_that_is_too_large_to_be_held_is_set_aside_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet({"interface_id": ["eni-0a"], "start": [1772357400], "srcaddr": ["10.0.0.1"]})
    blocks = [data[:100], data[100:200], data[200:]]
    monkeypatch.setattr(parquet_reader, "_MAX_FILE_BYTES", len(data))
    (chunk,) = VpcFlow().chunks(iter(blocks))
    assert (len(chunk.records), chunk.bad) == (1, ())
    monkeypatch.setattr(parquet_reader, "_MAX_FILE_BYTES", 150)
    (chunk,) = VpcFlow().chunks(iter(blocks))
    assert (chunk.records, list(chunk.bad)) == ([], [BadPart.of(data, 0, "Parquet of more than 150 bytes")])


def test_parquet_that_would_grow_beyond_reason_is_not_unfolded(read: Any) -> None:
    count = 3_000_000
    data = parquet_of(
        pa.table({"interface_id": pa.repeat("eni-0a", count), "start": pa.repeat(1772357400, count)})
    )
    found = read(data)
    assert found.rows == []
    assert "claims 3000000 rows" in found.reasons[0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_parquet_with_one_long_value_in_every_row_is_not_unfolded(kind: pa.DataType) -> None:
    count = 15_000

    def table(length: int) -> bytes:
        flows = {"interface_id": pa.repeat("eni-0a", count), "start": pa.repeat(1772357400, count)}
        return parquet_of(pa.table(flows | {"region": pa.repeat(pa.scalar("x" * length, kind), count)}))

    (chunk,) = VpcFlow().chunks(iter([table(100_000)]))
    assert (chunk.records, [part.reason for part in chunk.bad]) == (
        [],
        ["Parquet that cannot be read after 0 rows: a value is longer than 8,192 bytes"],
    )
    chunks = list(VpcFlow().chunks(iter([table(4_000)])))
    assert sum(len(chunk.records) for chunk in chunks) == count
    assert max(sum(map(len, chunk.records)) for chunk in chunks) < 20 << 20


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
def test_what_pages_say_that_they_unfold_to(version: str, dictionary: bool, compression: str) -> None:
    count = 9_000
    flows = pa.table(
        {
            "interface_id": [f"eni-{n}" for n in range(count)],
            "start": pa.array([1772357400 + n if n % 3 else None for n in range(count)]),
            "nothing": pa.nulls(count, pa.string()),
        }
    )
    file = io.BytesIO()
    pq.write_table(
        flows,
        file,
        compression=compression,
        use_dictionary=dictionary,
        data_page_version=version,
        data_page_size=1 << 30,
        dictionary_pagesize_limit=1 << 30,
        row_group_size=4_000,
        write_page_checksum=dictionary,
    )
    metadata = pq.ParquetFile(file).metadata
    most = max(metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups))
    headers = 6 * 200
    assert most - headers < unfolded(file, metadata) <= most


def test_parquet_with_a_page_that_unfolds_to_more_than_the_footer_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader makes room for what the page's own header names, and that may be 2 GiB."""
    count = 5_000
    flows = {"interface_id": [f"eni-{n:08}" for n in range(count)], "start": range(count)}
    file = io.BytesIO()
    table = pa.table({name: list(values) for name, values in flows.items()})
    pq.write_table(table, file, compression="zstd", use_dictionary=False)
    good = file.getvalue()
    # Of the first page: field 1, DATA_PAGE; field 2, the size, of which a number in three bytes is made more.
    assert good[4:7] == b"\x15\x00\x15"
    assert good[7] & good[8] & 0x80
    assert not good[9] & 0x80
    lying = good[:7] + b"\xfe\xff\x7f" + good[10:]
    monkeypatch.setattr(parquet_reader, "_MAX_GROUP_BYTES", 500_000)
    assert sum(len(chunk.records) for chunk in VpcFlow().chunks(iter([good]))) == count
    (chunk,) = VpcFlow().chunks(iter([lying]))
    assert "its pages unfold to more than 1 GiB" in chunk.bad[0].reason


def test_parquet_whose_footer_names_one_place_for_two_columns() -> None:
    """A footer is short: what it names again and again would be read as often."""
    values = list(range(1_000))
    file = io.BytesIO()
    table = pa.table({"start": values, "end": values, "interface_id": ["eni-0a"] * 1_000})
    pq.write_table(table, file, compression="none", use_dictionary=False)
    good = file.getvalue()
    metadata = pq.ParquetFile(file).metadata.row_group(0)
    first, second = (metadata.column(place).data_page_offset for place in (0, 1))
    field = b"\x26"  # a number of 64 bits, two fields behind total_compressed_size

    def number(value: int, size: int) -> bytes:
        value *= 2
        return bytes([value >> 7 * place & 0x7F | 0x80 * (place < size - 1) for place in range(size)])

    size = next(size for size in range(1, 5) if good.count(field + number(second, size)) == 1)
    bad = good.replace(field + number(second, size), field + number(first, size))
    assert [len(chunk.bad) for chunk in VpcFlow().chunks(iter([good]))] == [0]
    (chunk,) = VpcFlow().chunks(iter([bad]))
    assert "two of its pages begin at one place" in chunk.bad[0].reason


def test_parquet_with_more_columns_or_row_groups_than_a_flow_log_has(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = parquet({"interface_id": ["eni-0a"], "start": [1772357400]} | {f"c{n}": [1] for n in range(999)})
    (chunk,) = VpcFlow().chunks(iter([wide]))
    assert "1001 columns in 1 row groups are too many" in chunk.bad[0].reason
    monkeypatch.setattr(parquet_reader, "_MAX_GROUPS", 1)
    long = parquet({"interface_id": ["eni-0a"] * 3, "start": [1772357400] * 3})
    (chunk,) = VpcFlow().chunks(iter([long]))
    assert "2 columns in 2 row groups are too many" in chunk.bad[0].reason


@pytest.mark.parametrize(
    ("rest", "count", "why"),
    [
        (b"", 60_000, "more than 50,000 pages"),
        (
            b"\x59\xf3\x80\x7d" + bytes(16_000),
            300,
            "the headers of its pages are too long",
        ),
        (b"\x59\xf3\x80\x7f" + bytes(16_256), 1, "cut off or too long"),
    ],
    ids=["many", "long", "too long"],
)
def test_headers_of_pages_that_never_end(rest: bytes, count: int, why: str) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"start": [1, 2, 3]}), file, compression="none")
    metadata = pq.ParquetFile(file).metadata
    # Fields 1 to 3: a page of data, which unfolds to nothing and holds nothing. Then, a list of bytes.
    hostile = io.BytesIO(b"PAR1" + (b"\x15\x00" * 3 + rest + b"\x00") * count)
    with pytest.raises(ValueError, match=why):
        unfolded(hostile, metadata)


@given(st.binary(max_size=200))
def test_the_header_of_a_page_may_be_anything(content: bytes) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"start": [1, 2, 3]}), file, compression="none")
    metadata = pq.ParquetFile(file).metadata
    broken = io.BytesIO(b"PAR1" + content)
    with suppress(ValueError):
        assert unfolded(broken, metadata) >= 0


def test_parquet_with_lists_is_set_aside_before_it_is_read() -> None:
    data = parquet({"interface_id": ["eni-0a"], "start": [1772357400], "srcaddr": [["10.0.0.1"]]})
    (chunk,) = VpcFlow().chunks(iter([data]))
    assert "is none of such a log" in chunk.bad[0].reason


def test_a_very_long_header_is_none() -> None:
    # Else it would stand before each of the lines that follow.
    long = "version account-id start end " + "a" * 100_000
    (chunk,) = VpcFlow().chunks(iter([text(LINE, long, LINE, "")]))
    assert [len(record) for record in chunk.records] == [len(LINE), len(long), len(LINE)]
    rows = VpcFlow().rows(chunk.records)
    assert (rows.table.num_rows, len(rows.bad)) == (2, 1)


def parquet_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", row_group_size=table.num_rows)
    return file.getvalue()


def test_flows_are_asked_for_before_cloudtrail() -> None:
    first = next(source for source in SOURCES if source.recognises("x", text(LINE)))
    assert first.name == "vpcflow"
