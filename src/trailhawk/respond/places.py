"""Where a thing of AWS is, as the logs name it: account and region."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from trailhawk.engine.result import Result
from trailhawk.respond.containment import Place

BEFORE: Final = timedelta(days=90)
"""How long before the incident an event may tell where a thing is."""

# EC2 and GuardDuty speak of an instance in its own region, and EC2 fetches its credentials there. With those
# credentials one can call any region: that comes last.
_QUERY: Final = """
declare query_parameters(Instance: string, Start: datetime, End: datetime);
union
    (AWSCloudTrail
    | where TimeGenerated between (Start .. End) and isempty(ErrorCode)
        and EventSource in ("ec2.amazonaws.com", "sts.amazonaws.com", "ssm.amazonaws.com")
        and (RequestParameters has Instance or ResponseElements has Instance)
    | project Account = RecipientAccountId, Region = AWSRegion, Rank = 1),
    (AWSGuardDuty
    | where TimeGenerated between (Start .. End) and ResourceDetails has Instance
    | project Account = AccountId, Region, Rank = 1),
    (AWSCloudTrail
    | where TimeGenerated between (Start .. End) and UserIdentityPrincipalid has Instance
        and UserIdentityPrincipalid endswith strcat(":", Instance)
    | project Account = RecipientAccountId, Region = AWSRegion, Rank = 2)
| where isnotempty(Region)
| summarize Rank = min(Rank), Count = count() by Account, Region
| order by Rank asc, Count desc, Region asc, Account asc
| take 100
"""

Ask = Callable[[str, Mapping[str, object]], Result]
"""Runs KQL with values for its parameters."""


def places(ask: Ask, instance: str, *, start: datetime, end: datetime) -> tuple[Place, ...]:
    """Where the logs of this time and of the 90 days before name an instance, the likeliest first. What they
    say is to be checked: whoever has its credentials can call any region."""
    given = {"Instance": instance, "Start": start - BEFORE, "End": end + timedelta(days=1)}
    return tuple(Place(str(row["Account"]), str(row["Region"])) for row in ask(_QUERY, given).rows())
