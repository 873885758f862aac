"""CloudTrail records as Logstash's output plugin brings them: raw `Records_...` columns.

The shipper posts one JSON object a record, with the record under `Records`; Log Analytics flattens it, and
puts the type's letter behind each name: `_s` text, `_g` an id, `_d` a number, `_b` a flag, `_t` a time. Both
are read here, the nested and the flattened one, into AwsBucketAPILogsRaw_CL. The views
AWSS3BucketAPILogParsed and AwsBucketAPILogs_CL show these rows beside those of AWSCloudTrail.
Names: https://learn.microsoft.com/azure/azure-monitor/logs/data-collector-api#record-type-and-properties
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import Line, declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, Record, shape, text_of
from trailhawk.sources.moments import moment

_TYPES: Final = {
    "s": KqlType.STRING,
    "g": KqlType.STRING,
    "d": KqlType.REAL,
    "b": KqlType.BOOL,
    "t": KqlType.DATETIME,
}
# Those that the published hunts name, without the `Records_` in front. Names that differ by case alone cannot
# stand in one table: requestParameters_host_s shares the column of requestParameters_Host_s.
_NAMES: Final = """
eventTime_t eventSource_s eventType_s eventName_s awsRegion_s sourceIPAddress_s userAgent_s
userIdentity_type_s userIdentity_principalId_s userIdentity_arn_s userIdentity_accountId_s
userIdentity_accessKeyId_s userIdentity_userName_s requestParameters_s3BucketName_s
responseElements_trailARN_s responseElements_accessKey_accessKeyId_s
responseElements_accessKey_createDate_s requestParameters_accessKeyId_s
responseElements_accessKey_status_s responseElements_accessKey_userName_s responseElements_account_s
requestParameters_accountAttributeNameSet_items_s requestParameters_acl_s
requestParameters_amazonProvidedIpv6CidrBlock_b responseElements_arn_s
requestParameters_associationId_s responseElements_associationId_s
responseElements_assumedRoleUser_arn_s responseElements_assumedRoleUser_assumedRoleId_s
requestParameters_assumeRolePolicyDocument_s requestParameters_attribute_s
additionalEventData_AuthenticationMethod_s requestParameters_availabilityZone_s
requestParameters_aWSServiceName_s requestParameters_blockDeviceMapping_items_s
requestParameters_bucketName_s requestParameters_bucketPolicy_Version_s
requestParameters_bucketPolicy_Statement_s additionalEventData_bytesTransferredIn_d
additionalEventData_bytesTransferredOut_d requestParameters_cidrBlock_s
additionalEventData_CipherSuite_s requestParameters_clientToken_g responseElements_ConsoleLogin_s
requestParameters_cors_s responseElements_credentials_accessKeyId_s
responseElements_credentials_expiration_s responseElements_credentials_sessionToken_s
requestParameters_DescribeInstanceCreditSpecificationsRequest_InstanceId_content_s
requestParameters_DescribeInstanceCreditSpecificationsRequest_InstanceId_tag_d
requestParameters_DescribeVpcClassicLinkDnsSupportRequest_VpcIds_content_s
requestParameters_DescribeVpcClassicLinkDnsSupportRequest_VpcIds_tag_d
requestParameters_description_s requestParameters_destinationCidrBlock_s
responseElements_detectorId_g requestParameters_detectorId_g
requestParameters_disableApiTermination_b requestParameters_durationSeconds_d
requestParameters_ebsOptimized_b eventID_g requestParameters_enable_b
requestParameters_enableLogFileValidation_b requestParameters_encoding_type_s
requestParameters_encryption_s requestParameters_endTime_s errorCode_s errorMessage_s
responseElements_eventSelectors_s requestParameters_eventSelectors_s eventVersion_s
requestParameters_externalId_g requestParameters_filterSet_items_s
requestParameters_findingCriteria_criterion_service_archived_s requestParameters_findingIds_s
requestParameters_findingStatisticTypes_s requestParameters_gatewayId_s
requestParameters_groupDescription_s requestParameters_groupId_s responseElements_groupId_s
requestParameters_groupName_s requestParameters_Host_s requestParameters_iamInstanceProfile_name_s
requestParameters_imagesSet_items_s requestParameters_includeGlobalServiceEvents_b
responseElements_includeGlobalServiceEvents_b requestParameters_includeShadowTrails_b
requestParameters_instanceId_s responseElements_instanceProfile_arn_s
responseElements_instanceProfile_createDate_s responseElements_instanceProfile_instanceProfileId_s
responseElements_instanceProfile_instanceProfileName_s requestParameters_instanceProfileName_s
responseElements_instanceProfile_path_s responseElements_instanceProfile_roles_s
responseElements_instancesSet_items_s requestParameters_instancesSet_items_s
requestParameters_instanceTenancy_s requestParameters_instanceType_s
requestParameters_internetGatewayId_s requestParameters_internetGatewayIdSet_items_s
responseElements_internetGateway_internetGatewayId_s requestParameters_ipPermissions_items_s
requestParameters_isMultiRegionTrail_b responseElements_isMultiRegionTrail_b
requestParameters_isOrganizationTrail_b responseElements_isOrganizationTrail_b
requestParameters_key_s responseElements_keyFingerprint_s requestParameters_keyName_s
responseElements_keyName_s requestParameters_keySet_items_s requestParameters_kmsKeyId_s
requestParameters_lifecycle_s requestParameters_list_type_s requestParameters_location_s
responseElements_logFileValidationEnabled_b requestParameters_logging_s
additionalEventData_LoginTo_s requestParameters_lookupAttributes_s requestParameters_marker_s
requestParameters_maxItems_d requestParameters_maxResults_s requestParameters_maxResults_d
requestParameters_maxSessionDuration_d additionalEventData_MFAUsed_s
additionalEventData_MobileVersion_s requestParameters_monitoring_enabled_b requestParameters_name_s
responseElements_name_s requestParameters_networkInterfaceSet_items_s requestParameters_nextToken_s
requestParameters_object_lock_s requestParameters_onlyAttached_b responseElements_ownerId_s
requestParameters_path_s requestParameters_policy_s requestParameters_policyArn_s
requestParameters_policyStatus_s requestParameters_prefix_s requestParameters_publicAccessBlock_s
requestParameters_publicKeyMaterial_s readOnly_b recipientAccountId_s
requestParameters_replication_s requestID_s responseElements_requestId_g requestID_g
requestParameters_enableDnsHostnames_value_b requestParameters_requestPayment_s
responseElements_reservationId_s requestParameters_resourceIdList_s resources_s
requestParameters_resourcesSet_items_s responseElements__return_b requestParameters_roleArn_s
responseElements_role_arn_s responseElements_role_assumeRolePolicyDocument_s
responseElements_role_createDate_s requestParameters_roleName_s responseElements_role_path_s
responseElements_role_roleId_s responseElements_role_roleName_s requestParameters_roleSessionName_s
requestParameters_roleSessionName_g responseElements_role_tags_s requestParameters_routeTableId_s
requestParameters_routeTableIdSet_items_s responseElements_routeTable_ownerId_s
responseElements_routeTable_routeSet_items_s responseElements_routeTable_routeTableId_s
responseElements_routeTable_vpcId_s responseElements_s3BucketName_s
requestParameters_securityGroupIdSet_items_s userIdentity_sessionContext_attributes_creationDate_t
userIdentity_sessionContext_sessionIssuer_accountId_s
userIdentity_sessionContext_sessionIssuer_arn_s
userIdentity_sessionContext_sessionIssuer_principalId_s
userIdentity_sessionContext_sessionIssuer_type_s
userIdentity_sessionContext_attributes_mfaAuthenticated_s
userIdentity_sessionContext_sessionIssuer_userName_s sharedEventID_g
additionalEventData_SignatureVersion_s requestParameters_sortCriteria_attributeName_s
requestParameters_sortCriteria_orderBy_s additionalEventData_SSEApplied_s
requestParameters_startTime_s responseElements_subnet_assignIpv6AddressOnCreation_b
responseElements_subnet_availabilityZone_s responseElements_subnet_availabilityZoneId_s
responseElements_subnet_availableIpAddressCount_d responseElements_subnet_cidrBlock_s
responseElements_subnet_defaultForAz_b requestParameters_subnetId_s
responseElements_subnet_mapPublicIpOnLaunch_b responseElements_subnet_ownerId_s
requestParameters_subnetSet_items_s responseElements_subnet_state_s
responseElements_subnet_subnetArn_s responseElements_subnet_subnetId_s
responseElements_subnet_vpcId_s requestParameters_tagging_s requestParameters_Tagging_TagSet_Tag_s
requestParameters_Tagging_xmlns_s requestParameters_tags_s requestParameters_tagSet_items_s
requestParameters_tagSpecificationSet_items_s requestParameters_trailName_s
requestParameters_trailNameList_s responseElements_user_arn_s responseElements_user_createDate_s
requestParameters_userData_s responseElements_userId_s userIdentity_invokedBy_s
requestParameters_userName_s responseElements_user_path_s responseElements_user_userId_s
responseElements_user_userName_s requestParameters_versionId_s requestParameters_versioning_s
requestParameters_volumeSet_items_s responseElements_vpc_cidrBlock_s
responseElements_vpc_cidrBlockAssociationSet_items_s responseElements_vpc_dhcpOptionsId_s
additionalEventData_vpcEndpointId_s vpcEndpointId_s requestParameters_vpcId_s
responseElements_vpc_instanceTenancy_s responseElements_vpc_isDefault_b
responseElements_vpc_ownerId_s requestParameters_vpcSet_item_s requestParameters_vpcSet_items_s
responseElements_vpc_state_s responseElements_vpc_vpcId_s requestParameters_website_s
requestParameters_x_amz_acl_s additionalEventData_x_amz_id_2_s
requestParameters_x_amz_server_side_encryption_s responseElements_x_amz_server_side_encryption_s
"""
_RAW: Final = tuple(f"Records_{name}" for name in _NAMES.split())
_LINES: Final[tuple[Line, ...]] = (
    ("TimeGenerated", KqlType.DATETIME, "When the API call was made (eventTime), UTC.", ""),
    *((name, _TYPES[name[-1]], f"{name[8:-2]} of the record.", name) for name in _RAW),
)
TABLE: Final = declared(
    "AwsBucketAPILogsRaw_CL",
    "CloudTrail records as Logstash's route brings them, in raw columns. A table of ours.",
    _LINES,
    statistics=("Records_eventName_s",),
)

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_ODD: Final = re.compile(r"[^A-Za-z0-9_]")
_DEEPEST: Final = 32


def flattened(record: Record) -> Record | None:
    """A record with its `Records` member flattened as Log Analytics does; None where it has no such member.

    >>> flattened({"Records": {"readOnly": True, "requestParameters": {"x-amz-acl": "private", "n": 1}}})
    {'Records_readOnly_b': True, 'Records_requestParameters_x_amz_acl_s': 'private', \
'Records_requestParameters_n_d': 1}
    """
    inner = record.get("Records")
    if not isinstance(inner, dict):
        return None
    found = {name: value for name, value in record.items() if name != "Records"}
    _flatten("Records", inner, found, 0)
    return found


def _flatten(above: str, value: dict[str, object], found: Record, depth: int) -> None:
    for member, item in value.items():
        name = f"{above}_{_ODD.sub('_', member)}"
        if isinstance(item, dict) and depth < _DEEPEST:
            _flatten(name, item, found, depth + 1)
        elif item is not None:
            letter, flat = _lettered(item)
            found[f"{name}_{letter}"] = flat


def _lettered(value: object) -> tuple[str, object]:
    """The letter of a value's type, and the value as it is stored."""
    if isinstance(value, bool):
        return "b", value
    if isinstance(value, int | float):
        return "d", value
    if isinstance(value, str):
        letter = "g" if _GUID.fullmatch(value) else "t" if "T" in value and moment(value) is not None else "s"
        return letter, value
    return "s", orjson.dumps(value).decode()


def _identity(record: Record) -> str:
    event = text_of(record.get("Records_eventID_g") or record.get("Records_eventID_s"))
    return f"{event}\0{text_of(record.get('Records_recipientAccountId_s'))}" if event else ""


_HOST: Final = "Records_requestParameters_Host_s"
_PLACES: Final = {_HOST: ((_HOST,), ("Records_requestParameters_host_s",))}
_FIELDS: Final = [
    Field("TimeGenerated", KqlType.DATETIME, (("Records_eventTime_t",), ("TimeGenerated",), ("@timestamp",))),
    *(Field(name, kind, _PLACES.get(name, ((name,),))) for name, kind, _, _ in _LINES[1:]),
]
LOGSTASH: Final = JsonSource(
    "logstash",
    TABLE,
    JsonRows(
        TABLE,
        _FIELDS,
        what="Logstash record",
        identity=_identity,
        prepare=flattened,
        ignored=[("@version",), ("Type",), ("TenantId",), ("SourceSystem",)],
    ),
    framing=shape(),
    marks=(r'\A(?:\xef\xbb\xbf)?\s*\[?\s*\{[^{}]*"Records(?:"\s*:\s*\{|_[A-Za-z0-9_]{1,200}_[sgdbt]"\s*:)',),
    guard=False,
)
