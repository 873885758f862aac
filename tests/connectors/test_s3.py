"""Buckets listed and compared with the ledger: nothing missed, nothing twice, a cut-off pass goes on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from trailhawk.connectors import prefetch, s3
from trailhawk.connectors.config import Location, Reading, S3Settings
from trailhawk.connectors.connector import ConnectorError, Intake, State, Taker
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.objects import LogObject
from trailhawk.connectors.store import TableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.aws import Aws, Store
    from trailhawk.connectors.objects import Outcome

TREE = "AWSLogs/111122223333/CloudTrail/eu-west-1"


def settings(aws: Aws, *locations: Location, **changes: Any) -> S3Settings:
    return dataclasses.replace(S3Settings("old", locations or (Location("logs"),), aws.access), **changes)


def run(aws: Aws, store: Store, *locations: Location, **changes: Any) -> State:
    made = s3.connector(settings(aws, *locations, **changes), store.intake())
    made.run(threading.Event(), once=True)
    return made.state()


def test_a_bucket_is_taken_once(aws: Aws, store: Store) -> None:
    aws.bucket()
    for day in ("2026/03/01", "2026/03/02"):
        aws.put("logs", f"{TREE}/{day}/a + ü.json")
        aws.put("logs", f"{TREE}/{day}/b.json")
    first, second = run(aws, store), run(aws, store)
    assert store.events() == ["0", "1", "2", "3"]
    assert (first.objects, first.skipped) == (4, 0)
    assert (second.objects, second.skipped, second.rows) == (4, 4, 0)
    assert first.bytes > 0


def test_a_key_that_sorts_before_the_others_and_comes_after_them(aws: Aws, store: Store) -> None:
    aws.bucket()
    aws.put("logs", "m.json")
    run(aws, store)
    aws.put("logs", "a.json")
    aws.put("logs", "z.json")
    assert run(aws, store).rows == 2
    assert store.events() == ["0", "1", "2"]


@pytest.mark.parametrize("versions", [False, True])
def test_more_keys_than_a_page_has(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch, versions: bool
) -> None:
    monkeypatch.setattr(s3, "_PAGE_KEYS", 3)
    aws.bucket(versions=True)
    for number in range(7):
        aws.s3.put_object(Bucket="logs", Key=f"{number}/", Body=b"")
    aws.put("logs", "~last.json")
    state = run(aws, store, versions=versions)
    assert (state.passed_over, state.rows) == (7, 1)


def test_many_prefixes_and_buckets(aws: Aws, store: Store) -> None:
    for bucket in ("one", "two"):
        aws.bucket(bucket)
        for prefix in ("x/", "y/", "z/"):
            aws.put(bucket, f"{prefix}a.json")
    run(aws, store, Location("one", "x/"), Location("one", "z/"), Location("two"))
    assert store.events() == ["0", "2", "3", "4", "5"]


def test_markers_empty_objects_and_strangers_stop_nothing(aws: Aws, store: Store) -> None:
    aws.bucket()
    for key, body in (("d/", b""), ("d/empty.json", b""), ("d/photo.jpg", b"\xff\xd8\xff"), ("e/", b"")):
        aws.s3.put_object(Bucket="logs", Key=key, Body=body)
    aws.put("logs", "f.json")
    state = run(aws, store)
    assert store.events() == ["0"]
    assert (state.passed_over, state.set_aside) == (2, 2)
    assert run(aws, store).set_aside == 0


def test_the_same_object_by_queue_and_by_listing(aws: Aws, store: Store) -> None:
    from trailhawk.connectors import sqs
    from trailhawk.connectors.config import SqsSettings

    aws.bucket(versions=True)
    queue = aws.queue("logs")
    aws.put("logs", "1.json")
    sqs.connector(SqsSettings("main", queue, aws.access), store.intake()).run(threading.Event(), once=True)
    assert run(aws, store).skipped == 1
    assert run(aws, store, versions=True).skipped == 1
    assert len(store.ledger()) == 1


def test_versions(aws: Aws, store: Store) -> None:
    aws.bucket(versions=True)
    for _ in range(2):
        aws.put("logs", "1.json")
    aws.put("logs", "2.json")
    aws.s3.delete_object(Bucket="logs", Key="2.json")
    run(aws, store)
    assert store.events() == ["1"]
    run(aws, store, versions=True)
    assert store.events() == ["0", "1", "2"]


def test_only_the_last_days(aws: Aws, store: Store) -> None:
    aws.bucket()
    aws.put("logs", f"{TREE}/2026/02/20/a.json")
    aws.put("logs", f"{TREE}/2026/02/27/a.json")
    aws.put("logs", "vpc/year=2026/month=02/day=20/a.json")
    aws.put("logs", "access/2026-nothing.json")
    run(aws, store, since_days=5)
    assert store.events() == ["1", "3"]


class Cut:
    """A taker that ends the run after some objects, as a kill would: what was not flushed is not stored."""

    def __init__(self, inner: Taker, after: int, stop: Callable[[], None]) -> None:
        self._inner = inner
        self._left = after
        self._stop = stop

    @property
    def age(self) -> dt.timedelta:
        return dt.timedelta(days=1)  # every object is stored at once

    def knows(self, identity: str) -> bool:
        return self._inner.knows(identity)

    def take(self, item: LogObject, done: Callable[[Outcome], None]) -> None:
        if not self._left:
            self._stop()
        self._left -= 1
        self._inner.take(item, done)

    def flush(self) -> None:
        self._inner.flush()


class Killed(BaseException):
    """The end of a process, in a test."""


def kill() -> None:
    raise Killed


def test_a_pass_that_was_cut_off_goes_on_and_finds_what_came_before_the_cut(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.bucket()
    for name in range(20):
        aws.put("logs", f"{name:02d}.json")
    intake = store.intake()
    cutting = Intake(
        lambda worker: Cut(intake.taker(worker), 10, kill), intake.folder, intake.clock, intake.rng
    )
    monkeypatch.setattr(s3, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(prefetch, "_AHEAD_BYTES", 1)  # one after the other, however fast the threads
    with pytest.raises(Killed):
        s3.connector(settings(aws, reading=Reading(threads=1)), cutting).run(threading.Event(), once=True)
    assert len(store.events()) == 10
    aws.put("logs", "00-late.json")
    asked: list[str] = []
    made = s3.connector(settings(aws), store.intake())
    made._client.meta.events.register(
        "before-call.s3.ListObjectsV2", lambda params, **_: asked.append(params["url_path"] + params["url"])
    )
    made.run(threading.Event(), once=True)
    assert len(store.events()) == 21
    assert any("start-after=0" in url for url in asked), asked
    assert run(aws, store).skipped == 21


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (f"{TREE}/2026/03/02/a.json", f"{TREE}/2026/03/03/b.json"),
        ("s3/2026-03-02-09-00-00-0123456789ABCDEF", "s3/2026-03-03-09-00-00-0123456789ABCDEF"),
    ],
)
def test_it_goes_on_with_the_days_that_are_near(first: str, later: str, aws: Aws, store: Store) -> None:
    aws.bucket()
    aws.put("logs", first)
    given = settings(aws, every_seconds=1, flush_seconds=0)
    made = s3.connector(given, store.intake())
    stop = threading.Event()
    worker = threading.Thread(target=made.run, args=(stop,))
    worker.start()
    try:
        wait_for(lambda: made.state().objects >= 1)
        aws.put("logs", later)
        wait_for(lambda: made.state().rows >= 2)
    finally:
        stop.set()
        worker.join()
    assert store.events() == ["0", "1"]
    assert made.state().doing == "stopped"


def test_a_location_that_names_a_day_stays_there(aws: Aws, store: Store) -> None:
    aws.bucket()
    for name in ("02/a", "02/b", "03/a", "04/a"):
        aws.put("logs", f"{TREE}/2026/03/{name}.json")
    made = s3.connector(settings(aws, locations=(Location("logs", f"{TREE}/2026/03/02"),)), store.intake())
    taker, stop = store.intake().taker("w"), threading.Event()
    made._pass(taker, stop, full=True)
    aws.put("logs", f"{TREE}/2026/03/02/c.json")
    made._pass(taker, stop, full=False)
    assert len(store.events()) == 3


def test_little_is_kept_behind_what_cannot_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects come after it in the listing; how far all is settled stays as it was."""
    monkeypatch.setattr(s3, "_MOST_PLACES", 10)
    settled = s3._Settled(s3.Mark())
    places = [settled.begin(Notice("logs", f"{number:03d}.json")) for number in range(100)]
    settled.begin(Notice("logs", f"{TREE}/2026/03/02/a.json"))
    for number in (0, 1, *range(3, 100)):
        places[number].ended = True
    assert len(settled._places) <= 10
    assert settled.mark.after <= "001.json"
    assert settled.mark.parents == (f"{TREE}/",)


def test_what_cannot_be_stored_is_listed_again_after_a_rest(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full pass reads again every object of a table in trouble: between two of them new ones are taken."""
    moment, passes = [0.0], list[tuple[float, bool]]()
    monkeypatch.setattr(s3, "time", SimpleNamespace(monotonic=lambda: moment[0]))

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            moment[0] += timeout or 0.0
            if moment[0] > 12_000:
                self.set()
            return True

    def passed(taker: Taker, stop: threading.Event, *, full: bool) -> None:
        passes.append((moment[0], full))
        moment[0] += 500.0 if full else 10.0
        if moment[0] < 6000:
            raise TableError("AWSVPCFlow", "its log is damaged")

    made = s3.connector(settings(aws, every_seconds=60, full_every_seconds=0), store.intake())
    monkeypatch.setattr(made, "_pass", passed)
    made.run(Stop())
    assert [when for when, full in passes if full] == [0.0, 5000.0, 10_000.0]
    assert len(passes) > 100


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come")


def test_a_bucket_that_is_not_there_holds_up_no_other(aws: Aws, store: Store) -> None:
    aws.bucket()
    aws.put("logs", "a/1.json")
    aws.put("logs", "b/2.json")
    for before, behind in (("a/", "gone"), ("gone", "b/")):
        places = [Location("gone") if each == "gone" else Location("logs", each) for each in (before, behind)]
        with pytest.raises(ConnectorError, match="s3://gone/ cannot be listed: NoSuchBucket"):
            run(aws, store, *places)
    assert store.events() == ["0", "1"]


def test_a_bucket_that_is_not_there_is_told_until_it_is(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of other buckets that are had meanwhile say nothing of it."""
    aws.bucket()
    made = s3.connector(
        settings(aws, Location("gone"), Location("logs"), every_seconds=1, full_every_seconds=1),
        store.intake(),
    )
    told: list[str] = []

    def wait(_: float) -> bool:
        told.append(made.state().problem)
        if len(told) == 3:
            aws.bucket("gone")
        elif len(told) == 4:
            stop.set()
        aws.put("logs", f"{len(told)}.json")
        return stop.is_set()

    real, meanwhile = made._board.over, list[str]()

    def over(cause: str) -> None:
        real(cause)
        if 1 <= len(told) < 3:
            meanwhile.append(made.state().problem)

    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", wait)
    monkeypatch.setattr(made._board, "over", over)
    made.run(stop)
    assert [bool(each) for each in told] == [True, True, True, False]
    assert meanwhile
    assert all(meanwhile)


def test_a_prefix_that_nothing_lies_below_is_told(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped one looked like a bucket without news. It is no trouble: GuardDuty may find nothing yet."""
    aws.bucket()
    aws.put("logs", "AWSLogs/1.json")
    made = s3.connector(
        settings(aws, Location("logs", "AWSLogs/"), Location("logs", "AWSLog/"), every_seconds=60),
        store.intake(),
    )
    said: list[str] = []
    stop = threading.Event()
    real = made._board.doing

    def doing(what: str, *, idle: bool = False) -> None:
        real(what, idle=idle)
        if idle:
            said.append(what)
            stop.set()

    monkeypatch.setattr(made._board, "doing", doing)
    made.run(stop)
    assert said == ["waiting for the next pass; nothing lies below s3://logs/AWSLog/"]
    assert (made.state().rows, made.state().problem) == (1, "")


def test_a_bucket_that_is_not_there(aws: Aws, store: Store) -> None:
    with pytest.raises(ConnectorError, match=r"s3://logs/ cannot be listed: NoSuchBucket") as caught:
        run(aws, store)
    assert "doctor old" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "day", "parent"),
    [
        (f"{TREE}/2026/03/01/a.json", dt.date(2026, 3, 1), f"{TREE}/"),
        ("vpc/year=2026/month=03/day=01/a.gz", dt.date(2026, 3, 1), "vpc/year="),
        ("access2026-03-01-00-00-00-ABC", dt.date(2026, 3, 1), "accessYYYY-MM-DD-"),
        ("2026-13-01-00-00-00-ABC", None, "YYYY-MM-DD-"),
        ("1/eu-west-1/cards/2026/03/01/2026-03-01-00-00-00-ABC", dt.date(2026, 3, 1), "1/eu-west-1/cards/"),
        ("notes 2026-03-01-00-00-00-ABC.txt", None, None),
        ("x/111_CloudTrail_eu-west-1_20260301T1005Z_a.json.gz", dt.date(2026, 3, 1), None),
        ("x/2026/13/01/a", None, "x/"),
        ("2026/03/01/a", dt.date(2026, 3, 1), ""),
        ("a", None, None),
    ],
)
def test_the_day_of_a_key(key: str, day: dt.date | None, parent: str | None) -> None:
    assert s3.day_of(key) == day
    assert s3.day_parent(key) == parent
    if day and parent is not None:
        assert key.startswith(s3.day_folder(parent, day))
