"""Fifteen hunts, each as KQL and as the SQL that somebody who knows the files would write for DuckDB.

In the SQL `{days FROM TO}` stands for `read_parquet` over the files of these days, both included; promoted
paths are columns of their own there. `chdb` is ClickHouse's SQL where its Kusto dialect refuses the KQL, over
a MergeTree with the table's own columns.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hunt:
    name: str
    kql: str
    sql: str
    chdb: str


HUNTS = (
    Hunt(
        "calls of the month",
        "AWSCloudTrail | summarize Calls = count() by EventSource, EventName",
        "SELECT EventSource, EventName, count(*) FROM {days 2026-03-02 2026-03-31} GROUP BY ALL",
        "SELECT EventSource, EventName, count() FROM AWSCloudTrail GROUP BY EventSource, EventName",
    ),
    Hunt(
        "who is refused",
        """AWSCloudTrail
        | where TimeGenerated between (datetime(2026-03-17) .. datetime(2026-03-31T23:59:59))
        | where ErrorCode in ("AccessDenied", "Client.UnauthorizedOperation", "AccessDeniedException")
        | summarize Refused = count(), First = min(TimeGenerated), Last = max(TimeGenerated)
            by UserIdentityArn, EventName, SourceIpAddress
        | where Refused >= 3""",
        """SELECT UserIdentityArn, EventName, SourceIpAddress, count(*) AS refused, min(TimeGenerated),
        max(TimeGenerated)
        FROM {days 2026-03-17 2026-03-31} WHERE TimeGenerated <= TIMESTAMP '2026-03-31 23:59:59'
        AND ErrorCode IN ('AccessDenied', 'Client.UnauthorizedOperation', 'AccessDeniedException')
        GROUP BY 1, 2, 3 HAVING refused >= 3""",
        """SELECT UserIdentityArn, EventName, SourceIpAddress, count() AS refused, min(TimeGenerated),
        max(TimeGenerated)
        FROM AWSCloudTrail WHERE TimeGenerated BETWEEN '2026-03-17' AND '2026-03-31 23:59:59'
        AND ErrorCode IN ('AccessDenied', 'Client.UnauthorizedOperation', 'AccessDeniedException')
        GROUP BY 1, 2, 3 HAVING refused >= 3""",
    ),
    Hunt(
        "bytes out of buckets",
        """AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-18) and TimeGenerated < datetime(2026-04-01)
        | where EventSource == "s3.amazonaws.com" and EventName == "GetObject"
        | extend Bucket = tostring(parse_json(RequestParameters).bucketName)
        | extend Bytes = tolong(parse_json(AdditionalEventData).bytesTransferredOut)
        | summarize Bytes = sum(Bytes), Objects = count() by Bucket, UserIdentityArn
        | top 100 by Bytes""",
        """SELECT coalesce(_th_RequestParameters_bucketName, '') AS bucket, UserIdentityArn,
        sum(TRY_CAST(_th_AdditionalEventData_bytesTransferredOut AS BIGINT)) AS bytes, count(*)
        FROM {days 2026-03-18 2026-03-31} WHERE EventSource = 's3.amazonaws.com' AND EventName = 'GetObject'
        GROUP BY 1, 2 ORDER BY bytes DESC NULLS LAST LIMIT 100""",
        """SELECT JSONExtractString(RequestParameters, 'bucketName') AS bucket, UserIdentityArn,
        sum(JSONExtractInt(AdditionalEventData, 'bytesTransferredOut')) AS bytes, count()
        FROM AWSCloudTrail WHERE TimeGenerated >= '2026-03-18' AND TimeGenerated < '2026-04-01'
        AND EventSource = 's3.amazonaws.com' AND EventName = 'GetObject'
        GROUP BY 1, 2 ORDER BY bytes DESC LIMIT 100""",
    ),
    Hunt(
        "roles taken yesterday",
        """AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-31) and EventName == "AssumeRole"
        | extend Role = tostring(parse_json(RequestParameters).roleArn)
        | summarize count() by Role, SourceIpAddress, UserIdentityType""",
        """SELECT coalesce(_th_RequestParameters_roleArn, '') AS role, SourceIpAddress, UserIdentityType,
        count(*)
        FROM {days 2026-03-31 2026-03-31} WHERE EventName = 'AssumeRole' GROUP BY 1, 2, 3""",
        """SELECT JSONExtractString(RequestParameters, 'roleArn') AS role, SourceIpAddress,
        UserIdentityType, count()
        FROM AWSCloudTrail WHERE TimeGenerated >= '2026-03-31' AND EventName = 'AssumeRole' GROUP BY 1, 2,
        3""",
    ),
    Hunt(
        "addresses never seen before",
        """let known = AWSCloudTrail
            | where TimeGenerated >= datetime(2026-03-17) and TimeGenerated < datetime(2026-03-31)
            | distinct UserIdentityArn, SourceIpAddress;
        AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-31)
        | summarize Calls = count(), First = min(TimeGenerated) by UserIdentityArn, SourceIpAddress
        | join kind=leftanti known on UserIdentityArn, SourceIpAddress""",
        """SELECT * FROM (SELECT UserIdentityArn, SourceIpAddress, count(*), min(TimeGenerated)
        FROM {days 2026-03-31 2026-03-31} GROUP BY 1, 2) AS fresh
        ANTI JOIN (SELECT DISTINCT UserIdentityArn, SourceIpAddress FROM {days 2026-03-17 2026-03-30}) AS
        known
        USING (UserIdentityArn, SourceIpAddress)""",
        """SELECT UserIdentityArn, SourceIpAddress, calls, first FROM (
        SELECT UserIdentityArn, SourceIpAddress, count() AS calls, min(TimeGenerated) AS first FROM
        AWSCloudTrail
        WHERE TimeGenerated >= '2026-03-31' GROUP BY 1, 2) AS fresh
        LEFT ANTI JOIN (SELECT DISTINCT UserIdentityArn, SourceIpAddress FROM AWSCloudTrail
        WHERE TimeGenerated >= '2026-03-17' AND TimeGenerated < '2026-03-31') AS known
        ON fresh.UserIdentityArn = known.UserIdentityArn AND fresh.SourceIpAddress = known.SourceIpAddress""",
    ),
    Hunt(
        "hours of the month",
        """AWSCloudTrail
        | where EventSource in ("sts.amazonaws.com", "iam.amazonaws.com")
        | summarize Calls = count(), Callers = count_distinct(UserIdentityArn)
            by bin(TimeGenerated, 1h), EventSource
        | sort by TimeGenerated asc""",
        """SELECT time_bucket(INTERVAL 1 HOUR, TimeGenerated) AS hour, EventSource, count(*),
        count(DISTINCT UserIdentityArn)
        FROM {days 2026-03-02 2026-03-31} WHERE EventSource IN ('sts.amazonaws.com', 'iam.amazonaws.com')
        GROUP BY 1, 2 ORDER BY 1""",
        """SELECT toStartOfHour(TimeGenerated) AS hour, EventSource, count(), uniqExact(UserIdentityArn)
        FROM AWSCloudTrail WHERE EventSource IN ('sts.amazonaws.com', 'iam.amazonaws.com')
        GROUP BY 1, 2 ORDER BY 1""",
    ),
    Hunt(
        "one caller's trail",
        """AWSCloudTrail
        | where SourceIpAddress == "198.18.7.77"
        | project TimeGenerated, EventName, EventSource, UserIdentityArn, UserAgent, ErrorCode,
        RequestParameters
        | sort by TimeGenerated asc""",
        """SELECT TimeGenerated, EventName, EventSource, UserIdentityArn, UserAgent, ErrorCode,
        RequestParameters
        FROM {days 2026-03-02 2026-03-31} WHERE SourceIpAddress = '198.18.7.77' ORDER BY 1""",
        """SELECT TimeGenerated, EventName, EventSource, UserIdentityArn, UserAgent, ErrorCode,
        RequestParameters
        FROM AWSCloudTrail WHERE SourceIpAddress = '198.18.7.77' ORDER BY 1""",
    ),
    Hunt(
        "command lines",
        """AWSCloudTrail
        | where UserAgent has "aws-cli" and ReadOnly == false
        | summarize Calls = count(), Actions = count_distinct(EventName) by UserIdentityArn, SourceIpAddress
        | where Calls > 5""",
        r"""SELECT UserIdentityArn, SourceIpAddress, count(*) AS calls, count(DISTINCT EventName)
        FROM {days 2026-03-02 2026-03-31} WHERE ReadOnly = false AND contains(lower(UserAgent), 'aws-cli')
        AND regexp_matches(UserAgent, '(?:^|[^[:alnum:]])aws-cli(?:$|[^[:alnum:]])', 'i')
        GROUP BY 1, 2 HAVING calls > 5""",
        """SELECT UserIdentityArn, SourceIpAddress, count() AS calls, uniqExact(EventName)
        FROM AWSCloudTrail WHERE match(UserAgent, '(?i)(^|[^[:alnum:]])aws-cli($|[^[:alnum:]])') AND
        ReadOnly = false
        GROUP BY 1, 2 HAVING calls > 5""",
    ),
    Hunt(
        "instance credentials abroad",
        r"""AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-25)
        | where UserIdentityPrincipalid matches regex @":i-[0-9a-f]{17}$"
        | where SourceIpAddress !startswith "10." and SourceIpAddress !endswith ".amazonaws.com"
        | summarize Calls = count(), First = min(TimeGenerated) by UserIdentityArn, SourceIpAddress""",
        r"""SELECT UserIdentityArn, SourceIpAddress, count(*), min(TimeGenerated)
        FROM {days 2026-03-25 2026-03-31} WHERE regexp_matches(UserIdentityPrincipalid, ':i-[0-9a-f]{17}$')
        AND NOT starts_with(SourceIpAddress, '10.') AND NOT ends_with(lower(SourceIpAddress),
        '.amazonaws.com')
        GROUP BY 1, 2""",
        r"""SELECT UserIdentityArn, SourceIpAddress, count(), min(TimeGenerated)
        FROM AWSCloudTrail WHERE TimeGenerated >= '2026-03-25' AND match(UserIdentityPrincipalid,
        ':i-[0-9a-f]{17}$')
        AND NOT startsWith(SourceIpAddress, '10.') AND NOT endsWith(lower(SourceIpAddress), '.amazonaws.com')
        GROUP BY 1, 2""",
    ),
    Hunt(
        "bursts of reads",
        """AWSCloudTrail
        | where EventName == "GetObject"
        | summarize Reads = count() by UserIdentityArn, bin(TimeGenerated, 10m)
        | where Reads > 100""",
        """SELECT UserIdentityArn, time_bucket(INTERVAL 10 MINUTE, TimeGenerated), count(*) AS reads
        FROM {days 2026-03-02 2026-03-31} WHERE EventName = 'GetObject' GROUP BY 1, 2 HAVING reads > 100""",
        """SELECT UserIdentityArn, toStartOfInterval(TimeGenerated, INTERVAL 10 MINUTE) AS at, count() AS
        reads
        FROM AWSCloudTrail WHERE EventName = 'GetObject' GROUP BY 1, 2 HAVING reads > 100""",
    ),
    Hunt(
        "last seen",
        """AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-02)
        | summarize arg_max(TimeGenerated, EventName, SourceIpAddress) by UserIdentityArn""",
        """SELECT UserIdentityArn, max(TimeGenerated), arg_max(EventName, TimeGenerated),
        arg_max(SourceIpAddress, TimeGenerated) FROM {days 2026-03-02 2026-03-31} GROUP BY 1""",
        """SELECT UserIdentityArn, max(TimeGenerated), argMax(EventName, TimeGenerated),
        argMax(SourceIpAddress, TimeGenerated) FROM AWSCloudTrail GROUP BY 1""",
    ),
    Hunt(
        "sign-ins without MFA",
        """AWSCloudTrail
        | where EventName == "ConsoleLogin"
        | extend Outcome = tostring(parse_json(ResponseElements).ConsoleLogin)
        | extend Mfa = tostring(parse_json(AdditionalEventData).MFAUsed)
        | where Outcome == "Success" and Mfa != "Yes"
        | summarize count(), Last = max(TimeGenerated) by UserIdentityArn, SourceIpAddress, Mfa""",
        """SELECT UserIdentityArn, SourceIpAddress, coalesce(_th_AdditionalEventData_MFAUsed, '') AS mfa,
        count(*), max(TimeGenerated)
        FROM {days 2026-03-02 2026-03-31} WHERE EventName = 'ConsoleLogin'
        AND _th_ResponseElements_ConsoleLogin = 'Success' AND coalesce(_th_AdditionalEventData_MFAUsed, '')
        <> 'Yes'
        GROUP BY 1, 2, 3""",
        """SELECT UserIdentityArn, SourceIpAddress, JSONExtractString(AdditionalEventData, 'MFAUsed') AS
        mfa, count(), max(TimeGenerated)
        FROM AWSCloudTrail WHERE EventName = 'ConsoleLogin'
        AND JSONExtractString(ResponseElements, 'ConsoleLogin') = 'Success' AND mfa <> 'Yes' GROUP BY 1, 2,
        3""",
    ),
    Hunt(
        "from session to use",
        """let issued = AWSCloudTrail
            | where TimeGenerated >= datetime(2026-03-25) and EventName == "AssumeRole"
            | project Key = tostring(parse_json(ResponseElements).credentials.accessKeyId), By =
            UserIdentityArn
            | where isnotempty(Key);
        AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-25) and EventName in ("ListBuckets", "GetSecretValue")
        | join kind=inner issued on $left.UserIdentityAccessKeyId == $right.Key
        | summarize Uses = count() by By, UserIdentityArn, EventName""",
        """SELECT issued.arn, used.UserIdentityArn, EventName, count(*)
        FROM (SELECT UserIdentityArn, UserIdentityAccessKeyId AS key, EventName FROM {days 2026-03-25
        2026-03-31}
        WHERE EventName IN ('ListBuckets', 'GetSecretValue')) AS used
        JOIN (SELECT _th_ResponseElements_credentials_accessKeyId AS key, UserIdentityArn AS arn
        FROM {days 2026-03-25 2026-03-31} WHERE EventName = 'AssumeRole' AND key <> '') AS issued USING (key)
        GROUP BY 1, 2, 3""",
        """SELECT issued.arn, used.arn, event, count() FROM
        (SELECT UserIdentityArn AS arn, UserIdentityAccessKeyId AS key, EventName AS event FROM AWSCloudTrail
        WHERE TimeGenerated >= '2026-03-25' AND EventName IN ('ListBuckets', 'GetSecretValue')) AS used
        JOIN (SELECT JSONExtractString(ResponseElements, 'credentials', 'accessKeyId') AS key,
        UserIdentityArn AS arn
        FROM AWSCloudTrail WHERE TimeGenerated >= '2026-03-25' AND EventName = 'AssumeRole' AND key <> '')
        AS issued
        ON used.key = issued.key GROUP BY 1, 2, 3""",
    ),
    Hunt(
        "changes of the week, all rows",
        """AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-25) and ReadOnly == false and ManagementEvent == true
        | project TimeGenerated, EventSource, EventName, UserIdentityArn, SourceIpAddress, UserAgent,
            RequestParameters, ErrorCode""",
        """SELECT TimeGenerated, EventSource, EventName, UserIdentityArn, SourceIpAddress, UserAgent,
        RequestParameters, ErrorCode FROM {days 2026-03-25 2026-03-31} WHERE ReadOnly = false AND
        ManagementEvent = true""",
        """SELECT TimeGenerated, EventSource, EventName, UserIdentityArn, SourceIpAddress, UserAgent,
        RequestParameters, ErrorCode FROM AWSCloudTrail WHERE TimeGenerated >= '2026-03-25' AND ReadOnly =
        false
        AND ManagementEvent = true""",
    ),
    Hunt(
        "keys on the move",
        """AWSCloudTrail
        | where TimeGenerated >= datetime(2026-03-29) and UserIdentityAccessKeyId startswith_cs "ASIA"
        | summarize Addresses = count_distinct(SourceIpAddress), Regions = make_set(AWSRegion)
            by UserIdentityAccessKeyId
        | where Addresses > 1""",
        """SELECT UserIdentityAccessKeyId, count(DISTINCT SourceIpAddress) AS addresses, list(DISTINCT
        AWSRegion)
        FROM {days 2026-03-29 2026-03-31} WHERE starts_with(UserIdentityAccessKeyId, 'ASIA')
        GROUP BY 1 HAVING addresses > 1""",
        """SELECT UserIdentityAccessKeyId, uniqExact(SourceIpAddress) AS addresses, groupUniqArray(AWSRegion)
        FROM AWSCloudTrail WHERE TimeGenerated >= '2026-03-29' AND startsWith(UserIdentityAccessKeyId, 'ASIA')
        GROUP BY 1 HAVING addresses > 1""",
    ),
)
