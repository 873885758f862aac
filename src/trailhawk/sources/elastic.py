"""CloudTrail as Elastic's integration stores it (data stream `aws.cloudtrail`), back in CloudTrail's words.

Where the integration keeps `event.original`, that is the record, and is taken as it is. Without it the
members stand in ECS and under `aws.cloudtrail`; request and answer as they were under `flattened`, without
empty values, unless they were longer than 32,766 characters. What is lost: `sharedEventID`,
`ec2RoleDelivery`, and the name of a caller whose session has an issuer.
Mapping: https://www.elastic.co/docs/reference/integrations/aws/cloudtrail
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from trailhawk.sources import converted, framing
from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.held import DOCUMENTS, form_of
from trailhawk.sources.json_rows import Record, at, parsed, paths
from trailhawk.sources.source import Chunk, Rows

_OURS: Final = re.compile(
    rb'"aws"\s*+:\s*+\{\s*+"cloudtrail"\s*+:\s*+\{|"dataset"\s*+:\s*+"aws\.cloudtrail"|"aws\.cloudtrail\.'
)

# Where each member of a record stands in a document.
_PLACES: Final = {
    "eventTime": "@timestamp",
    "eventVersion": "aws.cloudtrail.event_version",
    "eventSource": "event.provider",
    "eventName": "event.action",
    "eventID": "event.id",
    "eventType": "aws.cloudtrail.event_type",
    "eventCategory": "aws.cloudtrail.event_category",
    "awsRegion": "cloud.region",
    "sourceIPAddress": "source.address|source.ip",
    "userAgent": "user_agent.original",
    "errorCode": "aws.cloudtrail.error_code",
    "errorMessage": "aws.cloudtrail.error_message",
    "requestID": "aws.cloudtrail.request_id",
    "apiVersion": "aws.cloudtrail.api_version",
    "managementEvent": "aws.cloudtrail.management_event",
    "readOnly": "aws.cloudtrail.read_only",
    "recipientAccountId": "aws.cloudtrail.recipient_account_id",
    "sharedEventID": "aws.cloudtrail.shared_event_id",
    "vpcEndpointId": "aws.cloudtrail.vpc_endpoint_id",
    "tlsDetails.cipherSuite": "tls.cipher",
    "tlsDetails.clientProvidedHostHeader": "tls.client.server_name",
    "userIdentity.type": "aws.cloudtrail.user_identity.type",
    "userIdentity.arn": "aws.cloudtrail.user_identity.arn",
    "userIdentity.principalId": "user.id",
    "userIdentity.accountId": "cloud.account.id",
    "userIdentity.accessKeyId": "aws.cloudtrail.user_identity.access_key_id",
    "userIdentity.invokedBy": "aws.cloudtrail.user_identity.invoked_by",
}
_SESSION: Final = "aws.cloudtrail.user_identity.session_context"
_OF_SESSION: Final = {
    "attributes.mfaAuthenticated": f"{_SESSION}.mfa_authenticated",
    "attributes.creationDate": f"{_SESSION}.creation_date",
    "sessionIssuer.type": f"{_SESSION}.session_issuer.type",
    "sessionIssuer.principalId": f"{_SESSION}.session_issuer.principal_id",
    "sessionIssuer.arn": f"{_SESSION}.session_issuer.arn",
    "sessionIssuer.accountId": f"{_SESSION}.session_issuer.account_id",
}
_STEPS: Final = {
    (*name.split("."),): paths(place)
    for name, place in (
        *_PLACES.items(),
        *((f"userIdentity.sessionContext.{name}", place) for name, place in _OF_SESSION.items()),
    )
}
_JSON: Final = {
    "requestParameters": "request_parameters",
    "responseElements": "response_elements",
    "additionalEventData": "additional_eventdata",
    "serviceEventDetails": "service_event_details",
}
_WHOLE_SECONDS: Final = ".000Z"


def as_cloudtrail(document: Record) -> Record:
    """The record that a document was made of. ValueError for a document of another log."""
    inner = document.get("_source")
    found = inner if isinstance(inner, dict) else document
    told = at(found, ("aws", "cloudtrail"))
    if not isinstance(told, dict) or at(found, ("event", "action")) is None:
        raise ValueError("no aws.cloudtrail, or no event.action")
    record: Record = {}
    for steps, places in _STEPS.items():
        value = next((value for place in places if (value := at(found, place)) is not None), None)
        if value is not None:
            _put(record, steps, value)
    for member, name in _JSON.items():
        value = at(told, ("flattened", name))
        if value is not None:
            record[member] = value
        elif name in told:  # the text alone cannot be told apart again
            record[f"{member} as text"] = told[name]
    _put_caller(record, at(found, ("user", "name")))
    if isinstance(version := at(found, ("tls", "version")), str):
        _put(record, ("tlsDetails", "tlsVersion"), version if version.startswith("TLS") else f"TLSv{version}")
    listed = told.get("resources")
    if isinstance(listed, list):
        record["resources"] = [_resource(each) for each in listed]
    time = record.get("eventTime")
    if isinstance(time, str):
        record["eventTime"] = time.removesuffix(_WHOLE_SECONDS) + "Z" * time.endswith(_WHOLE_SECONDS)
    return record


def _put(record: Record, steps: Sequence[str], value: object) -> None:
    *above, last = steps
    here = record
    for step in above:
        inner = here.setdefault(step, {})
        assert isinstance(inner, dict)  # all steps are ours, and none goes on below a value
        here = inner
    here[last] = value


def _put_caller(record: Record, name: object) -> None:
    """The name of the session's issuer, where there is one; else the caller's."""
    if name is not None:
        issuer = at(record, ("userIdentity", "sessionContext", "sessionIssuer"))
        place = ("sessionContext", "sessionIssuer", "userName") if issuer else ("userName",)
        _put(record, ("userIdentity", *place), name)


def _resource(value: object) -> object:
    if not isinstance(value, dict):
        return value
    named = {"arn": "ARN", "account_id": "accountId"}
    return {named.get(name, name): item for name, item in value.items()}


class Elastic:
    """Documents of `aws.cloudtrail` without their originals."""

    name = "elastic-cloudtrail"

    def __init__(self) -> None:
        self._inner = CloudTrail()
        self.table = self._inner.table

    def recognises(self, name: str, head: bytes) -> bool:
        return (
            DOCUMENTS.first.match(head.removeprefix(framing.BOM)) is not None
            and _OURS.search(head) is not None
            and form_of(head) is None
        )

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return framing.chunks(blocks, DOCUMENTS.shape)

    def rows(self, records: Sequence[bytes]) -> Rows:
        return converted.rows(
            records,
            self._inner,
            lambda text: as_cloudtrail(parsed(text)),
            what="a document of aws.cloudtrail",
        )
