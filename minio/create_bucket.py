#!/usr/bin/env python3
"""Waits for an S3-compatible server and creates a bucket in it. Standard library only.

Signs its requests with AWS Signature Version 4
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).

Exit code 0: the bucket is there (created now, or before by the same owner); 1: it isn't; 2: wrong usage.
"""

import argparse
import datetime
import hashlib
import hmac
import http.client
import os
import sys
import time
import urllib.parse

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed_headers(method: str, host: str, path: str, access_key: str, secret_key: str, region: str) -> dict:
    """The headers of a request without body and query."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": host, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [method, urllib.parse.quote(path), "", *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names]
        + [EMPTY_SHA256]
    )
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = sign(key, part)
    signature = sign(key, to_sign).hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def request(arguments: argparse.Namespace, method: str) -> tuple[int, str]:
    endpoint = urllib.parse.urlsplit(arguments.endpoint)
    connect = http.client.HTTPSConnection if endpoint.scheme == "https" else http.client.HTTPConnection
    path = f"/{arguments.bucket}"
    headers = signed_headers(
        method, endpoint.netloc, path, arguments.access_key, arguments.secret_key, arguments.region
    )
    connection = connect(endpoint.netloc, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(4096).decode(errors="replace")
    finally:
        connection.close()


def create(arguments: argparse.Namespace) -> str | None:
    """Creates the bucket; answers why not. Goes on until the server serves or the time is over."""
    deadline = time.monotonic() + arguments.wait
    while True:
        try:
            status, body = request(arguments, "PUT")
            if status in (200, 204) or "BucketAlreadyOwnedByYou" in body:
                return None
            # 5xx: still starting.
            if status < 500:
                return f"{status} {body}"
            reason = f"{status} {body}"
        except OSError as error:
            reason = str(error)
        if time.monotonic() >= deadline:
            return f"{arguments.endpoint} isn't ready after {arguments.wait} s: {reason}"
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description="Waits for an S3-compatible server and creates a bucket in it.")
    parser.add_argument("bucket")
    parser.add_argument("--endpoint", default=os.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"))
    parser.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    parser.add_argument("--access-key", default=os.environ.get("AWS_ACCESS_KEY_ID"))
    parser.add_argument("--secret-key", default=os.environ.get("AWS_SECRET_ACCESS_KEY"))
    parser.add_argument("--wait", type=float, default=30, metavar="SECONDS", help="for the server (default: 30)")
    arguments = parser.parse_args()
    if not arguments.access_key or not arguments.secret_key:
        parser.error("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --access-key and --secret-key")
    reason = create(arguments)
    if reason:
        print(f"create_bucket: {arguments.bucket}: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
