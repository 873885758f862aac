"""Automation rules in the shape of Sentinel's: when an incident or alert comes or changes, and how it must be
for the rule's actions to be taken.

https://learn.microsoft.com/azure/templates/microsoft.securityinsights/automationrules

Texts are compared without regard to case. A property with several values (labels, entities, tactics) equals,
contains, begins or ends with something where one of its values does; the negations hold where none does, and
so they hold where there is no value. Of a condition's values one is enough; of a negation's, all must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Final

from trailhawk.detect.alert import Alert
from trailhawk.incidents.change import GROUPING, Change, ChangeKind
from trailhawk.incidents.incident import Incident
from trailhawk.respond.changing import Setting

BY: Final = "Automation rule - "
"""Who changes an incident: this and the rule's name."""
MOST_ACTIONS, MOST_CONDITIONS, MOST_RULES = 20, 50, 512
"""Sentinel's bounds: actions of a rule, conditions with those inside of others, rules."""


class Trigger(Enum):
    """What a rule waits for."""

    INCIDENT_CREATED = "incident created"
    INCIDENT_UPDATED = "incident updated"
    ALERT_CREATED = "alert created"


class Operator(Enum):
    EQUALS = "Equals"
    NOT_EQUALS = "NotEquals"
    CONTAINS = "Contains"
    NOT_CONTAINS = "NotContains"
    STARTS_WITH = "StartsWith"
    NOT_STARTS_WITH = "NotStartsWith"
    ENDS_WITH = "EndsWith"
    NOT_ENDS_WITH = "NotEndsWith"


_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "Equals": lambda text, wanted: text == wanted,
    "Contains": lambda text, wanted: wanted in text,
    "StartsWith": lambda text, wanted: text.startswith(wanted),
    "EndsWith": lambda text, wanted: text.endswith(wanted),
}

ENTITY_PROPERTIES: Final[Mapping[str, tuple[str, str]]] = {
    "AccountAadTenantId": ("Account", "AadTenantId"),
    "AccountAadUserId": ("Account", "AadUserId"),
    "AccountName": ("Account", "Name"),
    "AccountNTDomain": ("Account", "NTDomain"),
    "AccountObjectGuid": ("Account", "ObjectGuid"),
    "AccountPUID": ("Account", "PUID"),
    "AccountSid": ("Account", "Sid"),
    "AccountUPNSuffix": ("Account", "UPNSuffix"),
    "AzureResourceResourceId": ("AzureResource", "ResourceId"),
    "AzureResourceSubscriptionId": ("AzureResource", "SubscriptionId"),
    "CloudApplicationAppId": ("CloudApplication", "AppId"),
    "CloudApplicationAppName": ("CloudApplication", "Name"),
    "DNSDomainName": ("DNS", "DomainName"),
    "FileDirectory": ("File", "Directory"),
    "FileHashValue": ("FileHash", "Value"),
    "FileName": ("File", "Name"),
    "HostAzureID": ("Host", "AzureID"),
    "HostName": ("Host", "HostName"),
    "HostNetBiosName": ("Host", "NetBiosName"),
    "HostNTDomain": ("Host", "NTDomain"),
    "HostOSVersion": ("Host", "OSVersion"),
    "IoTDeviceId": ("IoTDevice", "DeviceId"),
    "IoTDeviceModel": ("IoTDevice", "Model"),
    "IoTDeviceName": ("IoTDevice", "DeviceName"),
    "IoTDeviceOperatingSystem": ("IoTDevice", "OperatingSystem"),
    "IoTDeviceType": ("IoTDevice", "DeviceType"),
    "IoTDeviceVendor": ("IoTDevice", "Manufacturer"),
    "IPAddress": ("IP", "Address"),
    "MailboxDisplayName": ("Mailbox", "DisplayName"),
    "MailboxPrimaryAddress": ("Mailbox", "MailboxPrimaryAddress"),
    "MailboxUPN": ("Mailbox", "Upn"),
    "MailMessageDeliveryAction": ("MailMessage", "DeliveryAction"),
    "MailMessageDeliveryLocation": ("MailMessage", "DeliveryLocation"),
    "MailMessageP1Sender": ("MailMessage", "P1Sender"),
    "MailMessageP2Sender": ("MailMessage", "P2Sender"),
    "MailMessageRecipient": ("MailMessage", "Recipient"),
    "MailMessageSenderIP": ("MailMessage", "SenderIP"),
    "MailMessageSubject": ("MailMessage", "Subject"),
    "MalwareCategory": ("Malware", "Category"),
    "MalwareName": ("Malware", "Name"),
    "ProcessCommandLine": ("Process", "CommandLine"),
    "ProcessId": ("Process", "ProcessId"),
    "RegistryKey": ("RegistryKey", "Key"),
    "RegistryValueData": ("RegistryValue", "Value"),
    "Url": ("URL", "Url"),
    # Ours
    "AwsPrincipalArn": ("AwsPrincipal", "Arn"),
    "AwsSessionId": ("AwsSession", "Id"),
    "AwsSessionArn": ("AwsSession", "Arn"),
    "AwsAccessKeyId": ("AwsAccessKey", "Id"),
    "AwsInstanceId": ("AwsInstance", "Id"),
    "AwsBucketName": ("AwsBucket", "Name"),
    "AwsObjectBucket": ("AwsObject", "Bucket"),
    "AwsObjectKey": ("AwsObject", "Key"),
    "AwsAccountId": ("AwsAccount", "Id"),
}
"""Properties of entities: type and identifier."""

RULE_PROPERTIES: Final = ("IncidentRelatedAnalyticRuleIds", "AlertAnalyticRuleIds")
"""Compared with the ids and the names of rules; of a resource id of Azure the last part counts."""


# --- what is looked at -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """An incident as it stands, the change that is the occasion, and its alerts where a condition asks."""

    incident: Incident
    change: Change | None
    load_alerts: Callable[[Incident], tuple[Alert, ...]]

    @cached_property
    def details(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The custom details of the alerts."""
        return tuple(detail for alert in self.load_alerts(self.incident) for detail in alert.custom_details)

    def values(self, name: str) -> tuple[str, ...]:
        """The values of a property, as they are written."""
        return PROPERTIES[name](self)


def _entity_values(kind: str, identifier: str) -> Callable[[View], tuple[str, ...]]:
    def values(view: View) -> tuple[str, ...]:
        of_type = (each for each in view.incident.entities if each.type.lower() == kind.lower())
        return tuple(found for each in of_type if (found := each.identifier(identifier)))

    return values


def _updated_by(view: View) -> tuple[str, ...]:
    change = view.change
    if change is None:
        return ()
    if change.by == GROUPING:
        return ("AlertGrouping",)
    if change.by.startswith(BY):
        return ("AutomationRule",)
    return ("Playbook",) if change.by.startswith("Playbook - ") else ("User",)


PROPERTIES: Final[Mapping[str, Callable[[View], tuple[str, ...]]]] = {
    "IncidentTitle": lambda view: (view.incident.title,),
    "IncidentDescription": lambda view: (view.incident.description,),
    "IncidentSeverity": lambda view: (view.incident.severity.value,),
    "IncidentStatus": lambda view: (view.incident.status.value,),
    "IncidentTactics": lambda view: view.incident.tactics,
    "IncidentLabel": lambda view: view.incident.labels,
    "IncidentProviderName": lambda _: ("Trailhawk",),
    "AlertProductNames": lambda _: ("Trailhawk",),
    "IncidentUpdatedBySource": _updated_by,
    "IncidentRelatedAnalyticRuleIds": lambda view: (*view.incident.rule_ids, *view.incident.rule_names),
    "AlertAnalyticRuleIds": lambda view: (*view.incident.rule_ids, *view.incident.rule_names),
    "IncidentCustomDetailsKey": lambda view: tuple(key for key, _ in view.details),
    "IncidentCustomDetailsValue": lambda view: tuple(value for _, each in view.details for value in each),
    **{name: _entity_values(*where) for name, where in ENTITY_PROPERTIES.items()},
}


# --- conditions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Property:
    """What a property is now."""

    name: str
    operator: Operator
    values: tuple[str, ...]

    def holds(self, view: View) -> bool:
        return matches(view.values(self.name), self.operator, self.values)

    def __str__(self) -> str:
        return f"{self.name} {self.operator.value} {' or '.join(map(repr, self.values))}"


CHANGED: Final[Mapping[str, Callable[[Incident], str]]] = {
    "IncidentSeverity": lambda incident: incident.severity.value,
    "IncidentStatus": lambda incident: incident.status.value,
    "IncidentOwner": lambda incident: incident.owner,
}


@dataclass(frozen=True, slots=True)
class Changed:
    """That the occasion changed a property; from or to what, where `end` says so."""

    name: str
    end: str
    """ChangedFrom, ChangedTo, or empty."""
    operator: Operator
    values: tuple[str, ...]

    def holds(self, view: View) -> bool:
        change = view.change
        if change is None or change.before is None:
            return False
        before, after = CHANGED[self.name](change.before), CHANGED[self.name](change.after)
        if before == after:
            return False
        looked_at = before if self.end == "ChangedFrom" else after
        return not self.end or matches((looked_at,), self.operator, self.values)

    def __str__(self) -> str:
        end = f" {self.end} {self.operator.value} {' or '.join(map(repr, self.values))}" if self.end else ""
        return f"{self.name} changed{end}"


ADDED: Final[Mapping[str, Callable[[Change], bool]]] = {
    "Alerts": lambda change: bool(change.alerts_added),
    "Comments": lambda change: _has_more(change, lambda incident: incident.comments),
    "Labels": lambda change: _has_more(change, lambda incident: incident.labels),
    "Tactics": lambda change: _has_more(change, lambda incident: incident.tactics),
}


@dataclass(frozen=True, slots=True)
class Added:
    """That the occasion added alerts, comments, labels or tactics."""

    name: str

    def holds(self, view: View) -> bool:
        change = view.change
        return change is not None and change.before is not None and ADDED[self.name](change)

    def __str__(self) -> str:
        return f"{self.name} added"


@dataclass(frozen=True, slots=True)
class Details:
    """That one custom detail has all of it: its key, and a value (or all values) for which it holds."""

    items: tuple[Condition, ...]

    def holds(self, view: View) -> bool:
        return any(all(self._of(each, key, values) for each in self.items) for key, values in view.details)

    def _of(self, condition: Condition, key: str, values: tuple[str, ...]) -> bool:
        if isinstance(condition, Items):
            return condition.of(values)
        if isinstance(condition, Boolean):
            inner = (self._of(each, key, values) for each in condition.inner)
            return all(inner) if condition.every else any(inner)
        if isinstance(condition, Property):
            looked_at = (key,) if condition.name == "IncidentCustomDetailsKey" else values
            return matches(looked_at, condition.operator, condition.values)
        return False

    def __str__(self) -> str:
        return "one custom detail has all of"


@dataclass(frozen=True, slots=True)
class Items:
    """Of the labels or of a custom detail's values, each by itself: one, or all, for which it all holds."""

    name: str
    every: bool
    items: tuple[Condition, ...]

    def holds(self, view: View) -> bool:
        return self.of(view.incident.labels)

    def of(self, values: Iterable[str]) -> bool:
        found = [all(_of_value(each, value) for each in self.items) for value in values]
        return bool(found) and (all(found) if self.every else any(found))

    def __str__(self) -> str:
        return f"of {self.name} {'each' if self.every else 'one'} has all of"


@dataclass(frozen=True, slots=True)
class Boolean:
    """All or one of several."""

    every: bool
    inner: tuple[Condition, ...]

    def holds(self, view: View) -> bool:
        return (all if self.every else any)(each.holds(view) for each in self.inner)

    def __str__(self) -> str:
        return "all of" if self.every else "one of"


Condition = Property | Changed | Added | Details | Items | Boolean


def _of_value(condition: Condition, value: str) -> bool:
    if isinstance(condition, Boolean):
        return (all if condition.every else any)(_of_value(each, value) for each in condition.inner)
    return isinstance(condition, Property) and matches((value,), condition.operator, condition.values)


def _has_more(change: Change, part: Callable[[Incident], tuple[object, ...]]) -> bool:
    return change.before is not None and bool(set(part(change.after)) - set(part(change.before)))


def matches(found: Iterable[str], operator: Operator, wanted: Iterable[str]) -> bool:
    """Whether one of the values found is as one of those wanted; for a negation, whether none is."""
    name = operator.value
    negated = name.startswith("Not")
    test = _TESTS[name.removeprefix("Not")]
    texts = [text.lower() for text in found]
    is_so = any(test(text, each.lower()) for each in wanted for text in texts)
    return is_so != negated


def inside(condition: Condition) -> tuple[Condition, ...]:
    """The conditions inside of a condition."""
    if isinstance(condition, Boolean):
        return condition.inner
    return condition.items if isinstance(condition, Details | Items) else ()


def explained(conditions: Iterable[Condition], view: View, depth: int = 0) -> Iterator[tuple[int, str, bool]]:
    """Each condition in words, and whether it holds; those inside of it below, one deeper."""
    for each in conditions:
        yield depth, str(each), each.holds(view)
        if isinstance(each, Boolean):
            yield from explained(each.inner, view, depth + 1)


def explained_shape(conditions: Iterable[Condition], depth: int = 0) -> Iterator[tuple[int, str]]:
    """Each condition in words, those inside of it below, one deeper."""
    for each in conditions:
        yield depth, str(each)
        yield from explained_shape(inside(each), depth + 1)


# --- rules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Modify:
    setting: Setting

    def __str__(self) -> str:
        return f"set {self.setting}"


@dataclass(frozen=True, slots=True)
class RunPlaybook:
    name: str

    def __str__(self) -> str:
        return f"run playbook {self.name}"


@dataclass(frozen=True, slots=True)
class AddTask:
    title: str
    description: str

    def __str__(self) -> str:
        return f"add task {self.title}"


Action = Modify | RunPlaybook | AddTask


@dataclass(frozen=True, slots=True)
class Rule:
    """An automation rule. `actions` are in their order; of several rules the lower `order` is first."""

    id: str
    name: str
    order: int
    enabled: bool
    expires_at: datetime | None
    trigger: Trigger
    conditions: tuple[Condition, ...]
    actions: tuple[Action, ...]
    source: str

    @property
    def by(self) -> str:
        """Who it is in the log."""
        return BY + self.name

    def is_on(self, now: datetime) -> bool:
        return self.enabled and (self.expires_at is None or now < self.expires_at)

    def holds(self, view: View) -> bool:
        return all(each.holds(view) for each in self.conditions)


def occasion(change: Change) -> Trigger | None:
    """What a change is to rules; None where it starts none."""
    if change.kind is ChangeKind.MERGED_AWAY:
        return None
    if change.before is None:
        return Trigger.INCIDENT_CREATED
    known = change.fields & {"status", "severity", "owner", "labels", "tactics", "comments"}
    return Trigger.INCIDENT_UPDATED if known or change.alerts_added else None
