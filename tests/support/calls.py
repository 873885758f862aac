"""Records of CloudTrail for tests that ask only who called what, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def call(hours: float, address: str, name: str = "DeleteBucket") -> dict[str, object]:
    """A call of S3 by an account's root, so many hours into DAY."""
    return {
        "eventTime": (DAY + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "sourceIPAddress": address,
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "Root", "arn": "arn:aws:iam::111122223333:root"},
    }
