"""Forty detection rules of 20 to 60 lines over AWSCloudTrail: eight ways to detect, five subjects each."""

from __future__ import annotations

from collections.abc import Iterator

_FIRST_USE = """
// {about}: a caller does this for the first time, from an address it never used
let learning = 14d;
let recent = 1d;
let subject = dynamic([{events}]);
let known = AWSCloudTrail
    | where TimeGenerated between (ago(learning + recent) .. ago(recent))
    | where EventSource == "{source}"
    | where EventName in (subject)
    | extend Caller = iff(isempty(SessionIssuerArn), UserIdentityArn, SessionIssuerArn)
    | summarize Addresses = make_set(SourceIpAddress, 1000) by Caller, RecipientAccountId;
AWSCloudTrail
| where TimeGenerated > ago(recent)
| where EventSource == "{source}"
| where EventName in (subject)
| where isempty(ErrorCode)
| where SourceIpAddress !endswith ".amazonaws.com"
| extend Caller = iff(isempty(SessionIssuerArn), UserIdentityArn, SessionIssuerArn)
| extend Target = tostring(parse_json(RequestParameters).{target})
| join kind=leftouter known on Caller, RecipientAccountId
| extend IsNew = isnull(array_length(Addresses)) or array_index_of(Addresses, SourceIpAddress) < 0
| where IsNew
| summarize
    Calls = count(), FirstSeen = min(TimeGenerated), LastSeen = max(TimeGenerated),
    Targets = make_set(Target, 50), Agents = make_set(UserAgent, 10)
    by Caller, RecipientAccountId, SourceIpAddress, EventName
| extend AccountName = tostring(split(Caller, "/")[-1])
| extend Reason = strcat("{about} by ", AccountName, " from ", SourceIpAddress)
| project-reorder FirstSeen, LastSeen, Caller, SourceIpAddress
"""

_BURST = """
// {about}: far more calls in ten minutes than this caller ever makes
let threshold = {number};
let step = 10m;
let baseline = AWSCloudTrail
    | where TimeGenerated between (ago(8d) .. ago(1d))
    | where EventName in ({events})
    | summarize Calls = count() by UserIdentityArn, bin(TimeGenerated, step)
    | summarize Usual = percentile(Calls, 95), Busiest = max(Calls) by UserIdentityArn;
let present = AWSCloudTrail
    | where TimeGenerated > ago(1d)
    | where EventName in ({events})
    | where UserIdentityType != "AWSService"
    | extend Target = tostring(parse_json(RequestParameters).{target})
    | summarize
        Calls = count(), Targets = dcount(Target), Failures = countif(isnotempty(ErrorCode)),
        Addresses = make_set(SourceIpAddress, 20), Start = min(TimeGenerated), End = max(TimeGenerated)
        by UserIdentityArn, UserIdentityAccessKeyId, bin(TimeGenerated, step)
    | where Calls >= threshold;
present
| lookup kind=leftouter baseline on UserIdentityArn
| extend Usual = coalesce(toreal(Usual), 0.0), Busiest = coalesce(Busiest, 0)
| where Calls > 3 * Usual and Calls > Busiest
| extend Ratio = round(todouble(Calls) / iff(Usual < 1, 1.0, Usual), 1)
| extend Severity = case(Ratio > 50, "High", Ratio > 10, "Medium", "Low")
| project Start, End, UserIdentityArn, UserIdentityAccessKeyId, Calls, Targets, Failures, Ratio, Severity,
    Addresses
| sort by Ratio desc
| take 200
"""

_TAMPER = """
// {about}: a change that makes the rest invisible or permanent
let changes = datatable(Action: string, Weight: int, Why: string) [
    {weights}
];
AWSCloudTrail
| where TimeGenerated > ago(1h)
| where EventSource == "{source}"
| where ReadOnly == false
| where EventName in ({events})
| lookup kind=leftouter changes on $left.EventName == $right.Action
| extend Weight = coalesce(Weight, 1)
| extend
    Request = parse_json(RequestParameters),
    Response = parse_json(ResponseElements)
| extend Target = tostring(Request.{target})
| extend Outcome = iff(isempty(ErrorCode), "done", strcat("refused: ", ErrorCode))
| extend Console = UserAgent has_any ("console.amazonaws.com", "signin.amazonaws.com", "Coral/Jakarta")
| extend Mfa = coalesce(SessionMfaAuthenticated, false)
| where not(UserIdentityArn has "{trusted}")
| where SourceIpAddress !in ("cloudformation.amazonaws.com", "config.amazonaws.com")
| summarize
    Score = sum(Weight), Actions = make_set(EventName), Whys = make_set(Why), Targets = make_set(Target),
    arg_max(TimeGenerated, SourceIpAddress, UserAgent, Outcome), Count = count()
    by UserIdentityArn, UserIdentityAccountId, Console, Mfa
| where Score >= {number}
| extend Title = strcat("{about}: ", strcat_array(Actions, ", "))
| project TimeGenerated, Title, UserIdentityArn, UserIdentityAccountId, SourceIpAddress, UserAgent, Score,
    Whys,
    Targets, Outcome, Console, Mfa, Count
"""

_ABROAD = """
// {about}: credentials that belong to one place are used from another
let window = 2h;
let homes = AWSCloudTrail
    | where TimeGenerated > ago(7d)
    | where EventName == "AssumeRole" and isempty(ErrorCode)
    | extend Response = parse_json(ResponseElements), Request = parse_json(RequestParameters)
    | extend Key = tostring(Response.credentials.accessKeyId), Role = tostring(Request.roleArn)
    | where isnotempty(Key) and Role has "{trusted}"
    | summarize Home = take_any(SourceIpAddress), Issued = min(TimeGenerated) by Key, Role;
AWSCloudTrail
| where TimeGenerated > ago(window)
| where EventName in ({events})
| where UserIdentityAccessKeyId startswith "ASIA"
| where SourceIpAddress matches regex @"^\\d{{1,3}}(\\.\\d{{1,3}}){{3}}$"
| where not(ipv4_is_private(SourceIpAddress))
| join kind=inner homes on $left.UserIdentityAccessKeyId == $right.Key
| where Home != SourceIpAddress
| extend Age = TimeGenerated - Issued
| where Age between (0m .. 12h)
| extend Target = tostring(parse_json(RequestParameters).{target})
| extend Network = strcat(split(SourceIpAddress, ".")[0], ".", split(SourceIpAddress, ".")[1], ".0.0/16")
| summarize
    Calls = count(), Oldest = max(Age), Targets = make_set_if(Target, isnotempty(Target), 100),
    Actions = make_set(EventName), Start = min(TimeGenerated), End = max(TimeGenerated)
    by Role, Home, SourceIpAddress, Network, UserIdentityAccessKeyId
| where Calls >= {number} or array_length(Actions) > 2
| extend Minutes = datetime_diff("minute", End, Start), Title = "{about}"
| order by Calls desc
"""

_EXFIL = """
// {about}: bytes that leave, by caller and bucket, against the days before
let limit = {number} * 1024 * 1024;
let reads = AWSCloudTrail
    | where TimeGenerated > ago(10d)
    | where EventSource == "s3.amazonaws.com"
    | where EventName in ({events})
    | where isempty(ErrorCode)
    | extend Bucket = tostring(parse_json(RequestParameters).bucketName)
    | extend Object = tostring(parse_json(RequestParameters).{target})
    | extend Bytes = tolong(parse_json(AdditionalEventData).bytesTransferredOut)
    | where Bucket !startswith "{trusted}"
    | project TimeGenerated, UserIdentityArn, SourceIpAddress, UserAgent, Bucket, Object, Bytes;
let before = reads
    | where TimeGenerated < ago(1d)
    | summarize Day = sum(Bytes) by UserIdentityArn, Bucket, bin(TimeGenerated, 1d)
    | summarize Usual = avg(Day), Spread = stdev(Day) by UserIdentityArn, Bucket;
reads
| where TimeGenerated >= ago(1d)
| summarize
    Bytes = sum(Bytes), Objects = dcount(Object), Sample = make_list(Object, 25),
    Addresses = make_set(SourceIpAddress, 25), Agents = make_set(UserAgent, 10),
    Start = min(TimeGenerated), End = max(TimeGenerated)
    by UserIdentityArn, Bucket
| where Bytes > limit
| join kind=leftouter (before) on UserIdentityArn, Bucket
| extend Usual = coalesce(Usual, 0.0), Spread = coalesce(Spread, 0.0)
| where Bytes > Usual + 4 * Spread
| extend Moved = strcat(tostring(round(Bytes / 1048576.0, 1)), " MiB")
| extend Title = strcat("{about}: ", Moved, " from ", Bucket)
| project Start, End, Title, UserIdentityArn, Bucket, Objects, Moved, Addresses, Agents, Sample
"""

_PROBING = """
// {about}: many refusals, then one success
let tries = {number};
let span = 30m;
let refused = AWSCloudTrail
    | where TimeGenerated > ago(1d)
    | where EventSource == "{source}"
    | where ErrorCode in~ ("AccessDenied", "Client.UnauthorizedOperation", "AccessDeniedException")
    | where UserIdentityType in ("IAMUser", "AssumedRole", "FederatedUser")
    | summarize
        Refused = count(), Actions = dcount(EventName), LastRefusal = max(TimeGenerated),
        Messages = make_set(ErrorMessage, 5)
        by UserIdentityArn, SourceIpAddress
    | where Refused >= tries or Actions > 4;
let done = AWSCloudTrail
    | where TimeGenerated > ago(1d)
    | where EventSource == "{source}" and isempty(ErrorCode)
    | where EventName in ({events})
    | extend Target = tostring(parse_json(RequestParameters).{target})
    | project SuccessAt = TimeGenerated, UserIdentityArn, SourceIpAddress, EventName, Target, UserAgent;
refused
| join kind=inner done on UserIdentityArn, SourceIpAddress
| where SuccessAt between (LastRefusal .. (LastRefusal + span))
| extend Wait = SuccessAt - LastRefusal
| extend Tool = case(
    UserAgent contains "aws-cli", "command line",
    UserAgent contains "boto", "script",
    UserAgent startswith "[S3Console", "console",
    "other")
| where not(UserIdentityArn endswith "{trusted}")
| summarize arg_min(SuccessAt, *) by UserIdentityArn, SourceIpAddress, EventName
| extend Title = strcat("{about} after ", tostring(Refused), " refusals")
| project-away UserIdentityArn1, SourceIpAddress1
"""

_CHAIN = """
// {about}: one step follows another within the hour
let begun = AWSCloudTrail
    | where TimeGenerated > ago(6h)
    | where EventName in ({events})
    | where isempty(ErrorCode)
    | extend Made = tostring(parse_json(ResponseElements).accessKey.accessKeyId)
    | extend For = tostring(parse_json(RequestParameters).{target})
    | project MadeAt = TimeGenerated, By = UserIdentityArn, ByAddress = SourceIpAddress, Made, For, Step =
        EventName;
let used = AWSCloudTrail
    | where TimeGenerated > ago(6h)
    | where EventSource == "{source}" or EventName == "GetCallerIdentity"
    | where not(ReadOnly == true and EventName startswith "Describe")
    | summarize
        Uses = count(), FirstUse = min(TimeGenerated), Actions = make_set(EventName, 30),
        Regions = dcount(AWSRegion)
        by UserIdentityUserName, UserIdentityAccessKeyId, SourceIpAddress;
begun
| where isnotempty(For) and By !has "{trusted}"
| join kind=inner used on $left.For == $right.UserIdentityUserName
| where FirstUse >= MadeAt and FirstUse - MadeAt < 1h
| extend SameKey = Made == UserIdentityAccessKeyId, SameAddress = ByAddress == SourceIpAddress
| extend Score = 1 + toint(SameKey) * 2 + toint(not(SameAddress)) * 3 + iff(Regions > {number}, 2, 0)
| where Score >= 3
| extend Story = strcat(By, " made ", For, " at ", format_datetime(MadeAt, "yyyy-MM-dd HH:mm"), "; used ",
    tostring(Uses), " times from ", SourceIpAddress)
| extend Detail = bag_pack("actions", Actions, "regions", Regions, "step", Step)
| summarize Stories = make_list(Story), Scores = max(Score), Details = make_bag(Detail) by By, For
| extend Title = "{about}"
| sort by Scores desc, By asc
"""

_RARE = """
// {about}: what hardly anybody does, in a region or with a tool that nobody uses
let period = 21d;
let popular = AWSCloudTrail
    | where TimeGenerated > ago(period)
    | where EventSource == "{source}"
    | summarize Callers = dcount(UserIdentityArn), Regions = dcount(AWSRegion) by EventName
    | where Callers > {number};
let tools = AWSCloudTrail
    | where TimeGenerated > ago(period)
    | extend Tool = tostring(split(trim(@"[\\[\\]]", UserAgent), "/")[0])
    | summarize Known = dcount(bin(TimeGenerated, 1d)) by Tool
    | where Known >= 3
    | project Tool;
AWSCloudTrail
| where TimeGenerated > ago(1d)
| where EventSource == "{source}"
| where EventName in ({events}) or EventName startswith "Delete" or EventName startswith "Put"
| join kind=leftanti popular on EventName
| extend Tool = tostring(split(trim(@"[\\[\\]]", UserAgent), "/")[0])
| where Tool !in (tools) or AWSRegion !in ("us-east-1", "eu-central-1")
| mv-expand Resource = parse_json(Resources) to typeof(dynamic)
| extend ResourceArn = tostring(Resource.ARN), ResourceType = tostring(Resource.type)
| extend Target = coalesce(ResourceArn, tostring(parse_json(RequestParameters).{target}))
| where ResourceArn !has "{trusted}"
| parse UserIdentityArn with * "::" Account ":" Kind "/" Name
| summarize
    Calls = count(), Targets = make_set(Target, 20), Tools = make_set(Tool, 5), Regions = make_set(AWSRegion),
    First = min(TimeGenerated), Last = max(TimeGenerated)
    by Account, Kind, Name, EventName, ResourceType
| extend Title = strcat("{about}: ", EventName, " by ", Name)
"""

_SHAPES = (_FIRST_USE, _BURST, _TAMPER, _ABROAD, _EXFIL, _PROBING, _CHAIN, _RARE)

_SUBJECTS = (
    ("Secrets read", "secretsmanager", ("GetSecretValue", "ListSecrets"), "secretId", "rotation", 20),
    ("Objects read", "s3", ("GetObject", "ListObjects", "CopyObject"), "key", "log-archive", 100),
    ("Users changed", "iam", ("CreateUser", "CreateAccessKey", "AttachUserPolicy"), "userName", "ci", 3),
    ("Trails stopped", "cloudtrail", ("StopLogging", "DeleteTrail", "UpdateTrail"), "name", "admin", 2),
    ("Instances run", "ec2", ("RunInstances", "ModifyInstanceAttribute"), "instanceId", "autoscale", 10),
)
"""What it is about, the service, its events, the member of the request that names the target, a caller that
is trusted, and a number to exceed."""


def rules() -> Iterator[tuple[str, str]]:
    """Name and text of each rule."""
    for shape in _SHAPES:
        for about, service, events, target, trusted, number in _SUBJECTS:
            name = f"{shape.strip().splitlines()[0].partition(': ')[2]} ({about})"
            yield (
                name,
                shape.format(
                    about=about,
                    source=f"{service}.amazonaws.com",
                    events=", ".join(f'"{event}"' for event in events),
                    weights=",\n    ".join(
                        f'"{event}", {place + 1}, "{about}"' for place, event in enumerate(events)
                    ),
                    target=target,
                    trusted=trusted,
                    number=number,
                ).strip(),
            )
