"""Uploads `$FILE` by boto3, left as it comes, and prints the seconds it took.

`python -m tests.benchmarks.upload_by_boto3 file` or `pipe`; `make bench` runs it.
"""

import os
import subprocess
import sys
import time

import boto3


def main() -> None:
    client = boto3.client("s3")
    began = time.monotonic()
    if sys.argv[1] == "file":
        client.upload_file(os.environ["FILE"], os.environ["BUCKET"], os.environ["KEY"])
    else:
        with subprocess.Popen(("cat", os.environ["FILE"]), stdout=subprocess.PIPE) as process:
            client.upload_fileobj(process.stdout, os.environ["BUCKET"], os.environ["KEY"])
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
