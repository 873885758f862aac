"""The cast of a simulation: accounts, people, roles, instances, buckets and their addresses over the weeks.

Everything is drawn once from the seed and then never changes. What changes over the weeks is written
down as a timeline (an address from a moment on, a key from its issue on), so any day can be told alone.
All times are whole seconds since 1970 in UTC. All addresses come from ranges set aside for documentation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random

from .text import hex_id, identifier, letters, uuid

MINUTE, HOUR, DAY = 60, 3600, 86_400

PRODUCTION = "123456789012"
STAGING = "210987654321"
SECURITY = "345678901234"
SANDBOX = "456789012345"
HOME_REGION = "us-east-1"
EU_REGION = "eu-west-1"

Timeline = tuple[tuple[int, str], ...]
"""(from this second on, this value), ascending."""


def at_time(timeline: Timeline, at: int) -> str:
    """The value of a timeline at a moment; before its first entry, the first value."""
    value = timeline[0][1]
    for since, later in timeline:
        if since > at:
            break
        value = later
    return value


@dataclass(frozen=True)
class Role:
    """An IAM role. `id` is its AROA id; `path` ends in a slash."""

    name: str
    id: str
    account: str
    path: str = "/"

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role{self.path}{self.name}"

    def session_arn(self, session: str) -> str:
        return f"arn:aws:sts::{self.account}:assumed-role/{self.name}/{session}"


@dataclass(frozen=True)
class Key:
    """A temporary access key of an instance and how the instance got it ("1.0" or "2.0" of IMDS)."""

    id: str
    delivery: str


@dataclass(frozen=True)
class Issue:
    """One hand-over of credentials by EC2 to an instance: one to three keys, in one request."""

    at: int
    keys: tuple[Key, ...]
    request_id: str

    @property
    def agent_key(self) -> Key:
        return self.keys[-1]

    @property
    def application_key(self) -> Key:
        return self.keys[0]


@dataclass(frozen=True)
class Instance:
    """An EC2 instance with a role. `off` are the spans (from, to) in which it is stopped."""

    name: str
    id: str
    interface: str
    account: str
    region: str
    role: Role
    private: str
    public: Timeline
    born: int
    gone: int
    issues: tuple[Issue, ...]
    off: tuple[tuple[int, int], ...] = ()
    endpoint: str = ""
    """The id of the VPC endpoint that its S3 calls go through, if any."""

    def runs(self, at: int) -> bool:
        return self.born <= at < self.gone and not any(start <= at < end for start, end in self.off)

    @cached_property
    def _issue_times(self) -> list[int]:
        return [issue.at for issue in self.issues]

    def issue(self, at: int) -> Issue:
        """The credentials in use at a moment: those handed over last."""
        return self.issues[max(0, bisect_right(self._issue_times, at) - 1)]

    def issues_between(self, start: int, end: int) -> tuple[Issue, ...]:
        return self.issues[
            bisect_right(self._issue_times, start - 1) : bisect_right(self._issue_times, end - 1)
        ]

    def address(self, at: int) -> str:
        return at_time(self.public, at)


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket and the (key, bytes) of what lies in it from the beginning."""

    name: str
    account: str
    region: str
    objects: tuple[tuple[str, int], ...] = ()

    @property
    def arn(self) -> str:
        return f"arn:aws:s3:::{self.name}"


@dataclass(frozen=True)
class Person:
    """Somebody who works with AWS, through an IAM user (`user_id`) or single sign-on (`role`)."""

    name: str
    home: Timeline
    agent: str
    user_id: str
    access_key: str
    role: Role | None = None
    first_day: int = 1
    starts_at: int = 13
    """Hour (UTC) at which the day begins."""
    vacation: range = range(0)


@dataclass(frozen=True)
class LookAlike:
    """Something benign that resembles an attack, for the truth: when, and who or what."""

    name: str
    day: int
    story: str
    about: Mapping[str, object]


@dataclass(frozen=True)
class Setting:
    """What one variant of an attack wants otherwise in the world."""

    session_tokens: bool = False
    """The web server's metadata service gives credentials only for a session token (version 2)."""
    more_objects: tuple[tuple[str, int], ...] = ()
    """(key, bytes) of what else lies in the cardholder bucket."""
    last_day_move: bool = False
    """The NAT gateway is replaced on the last day too."""


ORDINARY = Setting()


@dataclass(frozen=True)
class World:
    """The whole cast. `start` is midnight of day 1; day `days` is the last and the day of the attack."""

    seed: int
    start: int
    days: int
    events_per_day: int
    office: Timeline
    vpn: Timeline
    ci: Timeline
    admins: tuple[Person, ...]
    analysts: tuple[Person, ...]
    developers: tuple[Person, ...]
    deployer: Person
    """The IAM user of the build server."""
    roles: Mapping[str, Role]
    instances: Mapping[str, Instance]
    fleet: tuple[Instance, ...]
    """The autoscaling group of the web application: members come and go."""
    buckets: Mapping[str, Bucket]
    keys: Mapping[str, str]
    """KMS key ids by alias."""
    changes: Mapping[str, int]
    """Moment of each change over the weeks, by name."""
    runner_addresses: tuple[str, ...]
    lambda_addresses: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.start + self.days * DAY

    def day_of(self, at: int) -> int:
        """The day, counted from 1, of a moment."""
        return (at - self.start) // DAY + 1

    def rng(self, *name: object) -> Random:
        """A stream of chance of its own for each actor and day: one actor more shifts no other."""
        return Random("/".join(map(str, (self.seed, *name))))

    def issue_rng(self, instance: Instance, issue: Issue) -> Random:
        """The stream of one issue's records, so that an attack knows the ids of the step before it."""
        return self.rng("issue", instance.name, issue.at)

    def everything_running(self) -> tuple[Instance, ...]:
        return (*self.instances.values(), *self.fleet)


WAF = "waf"
CARDHOLDER_OBJECTS = (
    ("cardholder_data_primary.csv", 58_872),
    ("cardholder_data_secondary.csv", 59_384),
    ("cardholders_corporate.csv", 92_165),
    ("goat.png", 249_500),
)
ODD_KEYS = (
    "contracts/Müller & Söhne/Vertrag 2026.pdf",
    "contracts/日本支社/契約書 v2.pdf",
    "contracts/عقد/نسخة نهائية.pdf",
    "photos/team 🦅 day.jpg",
    "exports/100%25 final (1).csv",
    "exports/q3+q4 report.csv",
    "exports/line\nbreak.txt",
)

CHROME = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
EDGE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"
)


def build(*, seed: int, start: int, days: int, events_per_day: int, setting: Setting = ORDINARY) -> World:
    """The world of one seed. The changes keep their place among 35 days when there are fewer or more."""
    rng = Random(f"{seed}/world")
    end = start + days * DAY

    def moment(day_of_35: int, hour: int, minute: int = 0) -> int:
        day = min(max(1, round(day_of_35 * days / 35)), days)
        return start + (day - 1) * DAY + hour * HOUR + minute * MINUTE

    changes = {
        "new_hire": moment(18, 14),
        "new_role": moment(20, 15, 10),
        "address_change": moment(22, 11, 30),
        "home_address_change": moment(24, 6),
        "new_bucket": moment(25, 16, 20),
        "stop_and_start": moment(27, 21, 5),
        "back_from_vacation": moment(30, 14),
        "rare_role_before": moment(3, 15, 5),
        "rare_role": moment(31, 15, 40),
        "power_policy": moment(23, 16, 12),
        "operator_on_instance": moment(21, 16, 44),
        "elastic_address_change": moment(26, 10, 17),
        "modest_policy": moment(28, 17, 35),
        "nat_failover": moment(29, 19, 8),
        "operator_on_stolen": moment(29, 15, 2),
    }
    if setting.last_day_move:
        changes["last_day_move"] = end - DAY + 21 * HOUR + 40 * MINUTE
    move = changes["address_change"]
    office: Timeline = ((0, "192.0.2.10"), (move, "192.0.2.140"))
    vpn: Timeline = ((0, "192.0.2.21"),)
    ci: Timeline = ((0, "192.0.2.50"), (move + 7 * MINUTE, "192.0.2.150"))
    failover = changes["nat_failover"]
    nat: Timeline = (
        (0, "198.51.100.40"),
        (move + 21 * MINUTE, "198.51.100.141"),
        (failover, "198.51.100.142"),
        (failover + 95 * MINUTE, "198.51.100.141"),
        *([(changes["last_day_move"], "198.51.100.143")] if setting.last_day_move else []),
    )
    catalog: Timeline = ((0, "198.51.100.61"), (changes["elastic_address_change"], "198.51.100.162"))

    cgid = "cgid" + letters(rng, 10)
    roles = _roles(rng, cgid)
    spacing = _refresh_seconds(events_per_day)

    def instance(
        name: str,
        role: str,
        private: str,
        public: Timeline,
        *,
        account: str = PRODUCTION,
        region: str = HOME_REGION,
        instance_id: str = "",
        interface: str = "",
        born: int = start - 20 * DAY,
        gone: int = end + DAY,
        off: tuple[tuple[int, int], ...] = (),
        endpoint: str = "",
        old_metadata: bool = False,
        session_tokens: bool = False,
        every: int = spacing,
    ) -> Instance:
        own = Random(f"{seed}/instance/{name}")
        return Instance(
            name=name,
            id=instance_id or "i-" + hex_id(own, 17),
            interface=interface or "eni-" + hex_id(own, 17),
            account=account,
            region=region,
            role=roles[role],
            private=private,
            public=public,
            born=born,
            gone=gone,
            issues=_issues(
                own,
                start,
                max(born, start - 8 * HOUR),
                min(gone, end),
                every,
                off,
                old_metadata,
                session_tokens,
            ),
            off=off,
            endpoint=endpoint,
        )

    stop = changes["stop_and_start"]
    cast = (
        instance(
            WAF,
            WAF,
            "10.10.10.77",
            ((0, "198.51.100.20"),),
            instance_id="i-0a1b2c3d4e5f60718",
            interface="eni-0a1b2c3d4e5f60718",
            old_metadata=True,
            session_tokens=setting.session_tokens,
            every=HOUR if events_per_day >= 1000 else 2 * HOUR,
        ),
        instance("backup", "backup", "10.20.4.10", ((0, "198.51.100.30"),)),
        instance("orders-1", "orders", "10.20.1.11", nat),
        instance("orders-2", "orders", "10.20.2.12", nat),
        instance("orders-3", "orders", "10.20.3.13", nat),
        instance("media", "media", "10.20.1.40", nat, endpoint="vpce-0f" + hex_id(rng, 15)),
        instance(
            "erp",
            "erp",
            "10.20.9.5",
            ((0, "198.51.100.55"), (stop, "198.51.100.157")),
            off=((stop, stop + 16 * MINUTE),),
            old_metadata=True,
        ),
        instance(
            "invoice",
            "invoice",
            "10.20.4.70",
            ((0, "198.51.100.70"),),
            born=changes["new_role"] + 25 * MINUTE,
        ),
        instance("catalog-1", "catalog", "10.40.1.21", ((0, "198.51.100.60"),), region=EU_REGION),
        instance("catalog-2", "catalog", "10.40.2.22", catalog, region=EU_REGION),
        instance("staging", "staging", "10.60.1.15", ((0, "198.51.100.90"),), account=STAGING),
        instance("collector", "collector", "10.80.1.8", ((0, "198.51.100.95"),), account=SECURITY),
    )
    fleet = tuple(
        instance(
            f"web-{number}",
            "web",
            f"10.20.{1 + number % 3}.{100 + number}",
            ((0, f"198.51.100.{100 + number}"),),
            born=born,
            gone=gone,
        )
        for number, (born, gone) in enumerate(_fleet_lives(rng, start, end))
    )
    return World(
        seed=seed,
        start=start,
        days=days,
        events_per_day=events_per_day,
        office=office,
        vpn=vpn,
        ci=ci,
        admins=_admins(rng),
        analysts=_analysts(rng, roles, changes, start),
        developers=_developers(rng, (changes["new_hire"] - start) // DAY + 1),
        deployer=_person(rng, "ci-deployer", ci, ""),
        roles=roles,
        instances={member.name: member for member in cast},
        fleet=fleet,
        buckets=_buckets(rng, cgid, setting.more_objects),
        keys={name: uuid(rng) for name in ("orders", "secrets")},
        changes=changes,
        # Hosted runners and functions outside a VPC call from wherever the provider has room.
        runner_addresses=tuple(f"192.0.2.{last}" for last in rng.sample(range(160, 250), 40)),
        lambda_addresses=tuple(f"198.51.100.{last}" for last in rng.sample(range(200, 250), 24)),
    )


def _refresh_seconds(events_per_day: int) -> int:
    """EC2 renews about every hour; a thin simulation renews less often, within the six hours a key lives."""
    if events_per_day >= 8000:
        return HOUR
    return 2 * HOUR if events_per_day >= 2000 else 5 * HOUR


def _issues(
    rng: Random,
    start: int,
    first: int,
    end: int,
    every: int,
    off: tuple[tuple[int, int], ...],
    old_metadata: bool,
    session_tokens: bool,
) -> tuple[Issue, ...]:
    """Credential issues from `first` on. With `old_metadata` software on the instance still uses IMDSv1,
    unless that is switched off (`session_tokens`)."""
    issues: list[Issue] = []
    old_way = old_metadata and not session_tokens
    at = first + (9 if first >= start else rng.randint(0, every))
    while at < end:
        stopped = next((span for span in off if span[0] <= at < span[1]), None)
        if stopped:
            at = stopped[1] + 25
        count = rng.randint(2, 3) if old_metadata else rng.choices((1, 2, 3), (6, 4, 1))[0]
        keys = tuple(
            Key(identifier(rng, "ASIA", 16), "1.0" if old_way and place < count - 1 else "2.0")
            for place in range(count)
        )
        issues.append(Issue(at, keys, uuid(rng)))
        following = at + int(every * rng.uniform(0.86, 1.06))
        # A start hands out new credentials, however young the old ones are.
        restart = next((up + 25 for down, up in off if at < down <= following), None)
        at = restart or following
    return tuple(issues)


def _fleet_lives(rng: Random, start: int, end: int) -> list[tuple[int, int]]:
    """(born, gone) of the web servers: a new one every few days, the oldest leaves an hour later."""
    lives = [[start - 9 * DAY, end + DAY], [start - 4 * DAY, end + DAY]]
    at = start + rng.randint(1, 3) * DAY + rng.randint(9, 20) * HOUR
    while at < end and len(lives) < 40:
        lives.append([at, end + DAY])
        lives[-3][1] = at + HOUR + rng.randint(0, 600)
        at += rng.randint(3, 5) * DAY + rng.randint(-5 * HOUR, 5 * HOUR)
    return [(born, gone) for born, gone in lives]


def _roles(rng: Random, cgid: str) -> dict[str, Role]:
    def role(name: str, account: str = PRODUCTION, path: str = "/") -> Role:
        return Role(name, identifier(rng, "AROA"), account, path)

    def sso(name: str, account: str = PRODUCTION) -> Role:
        return role(f"AWSReservedSSO_{name}_{hex_id(rng, 16)}", account, "/aws-reserved/sso.amazonaws.com/")

    def linked(service: str, name: str, account: str = PRODUCTION) -> Role:
        return role(name, account, f"/aws-service-role/{service}/")

    return {
        WAF: role(f"cg-banking-WAF-Role-{cgid}"),
        "backup": role("nightly-backup-role"),
        "orders": role("orders-api-role"),
        "media": role("media-processor-role"),
        "erp": role("erp-app-role"),
        "invoice": role("invoice-service-role"),
        "catalog": role("catalog-eu-role"),
        "web": role("web-frontend-role"),
        "staging": role("orders-api-staging-role", STAGING),
        "collector": role("log-collector-role", SECURITY),
        "deploy": role("ci-deploy-role"),
        "deploy-staging": role("ci-deploy-role", STAGING),
        "deploy-sandbox": role("ci-deploy-role", SANDBOX),
        "github": role("github-actions-artifacts"),
        "read-only": role("developer-read-only"),
        "read-only-staging": role("developer-read-only", STAGING),
        "org-admin": role("organization-admin", SANDBOX),
        "incident-response": role("incident-response-read"),
        "thumbnail": role("thumbnailer-lambda-role", path="/service-role/"),
        "rotation": role("secret-rotation-lambda-role", path="/service-role/"),
        "analyst": sso("DataAnalyst"),
        "auditor": sso("SecurityAudit"),
        "auditor-logs": sso("SecurityAudit", SECURITY),
        "config": linked("config.amazonaws.com", "AWSServiceRoleForConfig"),
        "config-staging": linked("config.amazonaws.com", "AWSServiceRoleForConfig", STAGING),
        "config-security": linked("config.amazonaws.com", "AWSServiceRoleForConfig", SECURITY),
        "autoscaling": linked("autoscaling.amazonaws.com", "AWSServiceRoleForAutoScaling"),
        "advisor": linked("trustedadvisor.amazonaws.com", "AWSServiceRoleForTrustedAdvisor"),
    }


def _person(
    rng: Random,
    name: str,
    home: Timeline,
    agent: str,
    *,
    role: Role | None = None,
    first_day: int = 1,
    starts_at: int = 13,
    vacation: range = range(0),
) -> Person:
    return Person(
        name=name,
        home=home,
        agent=agent,
        user_id=identifier(rng, "AIDA"),
        access_key=identifier(rng, "AKIA", 16),
        role=role,
        first_day=first_day,
        starts_at=starts_at,
        vacation=vacation,
    )


def _admins(rng: Random) -> tuple[Person, ...]:
    return (
        _person(rng, "dana.keller", ((0, "203.0.113.101"),), CHROME),
        _person(rng, "omar.haddad", ((0, "203.0.113.117"),), FIREFOX, starts_at=14),
    )


def _analysts(
    rng: Random, roles: Mapping[str, Role], changes: Mapping[str, int], start: int
) -> tuple[Person, ...]:
    def day(name: str) -> int:
        return (changes[name] - start) // DAY + 1

    moved = ((0, "203.0.113.133"), (changes["home_address_change"], "203.0.113.209"))
    back = day("back_from_vacation")
    return (
        _person(rng, "priya.raman@example.com", ((0, "203.0.113.125"),), CHROME, role=roles["analyst"]),
        _person(rng, "tom.okafor@example.com", moved, EDGE, role=roles["analyst"], starts_at=14),
        _person(
            rng,
            "lena.fischer@example.com",
            ((0, "2001:db8:4a1:7::1f3c"),),
            FIREFOX,
            role=roles["auditor"],
            starts_at=8,
            vacation=range(back - 17, back),
        ),
        _person(
            rng,
            "grace.mbeki@example.com",
            ((0, "203.0.113.188"),),
            CHROME,
            role=roles["analyst"],
            first_day=day("new_hire"),
        ),
    )


def _developers(rng: Random, hired_on: int) -> tuple[Person, ...]:
    return (
        _person(rng, "li.wei", ((0, "203.0.113.142"),), "", starts_at=14),
        _person(rng, "sofia.costa", ((0, "203.0.113.150"),), "", starts_at=13),
        _person(rng, "noah.berg", ((0, "203.0.113.171"),), "", starts_at=15),
        _person(rng, "grace.mbeki", ((0, "203.0.113.188"),), "", first_day=hired_on),
    )


def _buckets(rng: Random, cgid: str, more: tuple[tuple[str, int], ...]) -> dict[str, Bucket]:
    def size() -> int:
        return int(rng.lognormvariate(13.2, 1.4)) + 300

    def files(prefix: str, ending: str, count: int) -> tuple[tuple[str, int], ...]:
        return tuple((f"{prefix}{letters(rng, 8)}{ending}", size()) for _ in range(count))

    def named(name: str) -> str:
        return f"{name}-{letters(rng, 6)}"

    documents = files("documents/", ".pdf", 900) + tuple((key, size()) for key in ODD_KEYS)
    return {
        "cardholders": Bucket(
            f"cg-cardholder-data-bucket-{cgid}", PRODUCTION, HOME_REGION, CARDHOLDER_OBJECTS + more
        ),
        "waf-config": Bucket(
            f"cg-banking-waf-config-{cgid}",
            PRODUCTION,
            HOME_REGION,
            (("waf/rules.json", 18_211), ("waf/blocklist.txt", 44_903), ("nginx/upstreams.conf", 2_114)),
        ),
        "documents": Bucket(named("example-documents"), PRODUCTION, HOME_REGION, documents),
        "media": Bucket(named("example-media"), PRODUCTION, HOME_REGION, files("uploads/", ".jpg", 400)),
        "assets": Bucket(
            named("example-web-assets"), PRODUCTION, HOME_REGION, files("static/js/app.", ".js", 60)
        ),
        "artifacts": Bucket(
            named("example-build-artifacts"), PRODUCTION, HOME_REGION, files("builds/", ".zip", 80)
        ),
        "analytics": Bucket(
            named("example-analytics"),
            PRODUCTION,
            HOME_REGION,
            files("sales/region=us/part-", ".parquet", 160),
        ),
        "invoices": Bucket(
            named("example-invoice-archive"), PRODUCTION, HOME_REGION, files("2026/invoice-", ".pdf", 120)
        ),
        "catalog": Bucket(
            named("example-catalog-eu"), PRODUCTION, EU_REGION, files("catalog/", ".json", 200)
        ),
        "staging": Bucket(
            named("example-staging-data"), STAGING, HOME_REGION, files("fixtures/", ".json", 80)
        ),
        "backups": Bucket(named("example-backups"), SECURITY, HOME_REGION),
        "logs": Bucket(named("example-log-archive"), SECURITY, HOME_REGION),
        "scratch": Bucket(named("example-sandbox-scratch"), SANDBOX, HOME_REGION, files("tmp/", ".bin", 40)),
    }
