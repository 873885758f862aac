"""The other logs of the same days: VPC flow records, S3 server access, GuardDuty findings, a proxy's log.

Each kind is made from what the CloudTrail records and web requests already say, so that addresses, times,
bytes and request ids agree. Chance comes from streams of their own: the CloudTrail files stay as they are.
"""
