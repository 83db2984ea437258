"""An S3 server on loopback with an empty bucket; prints its endpoint. Needs moto, as tests do."""

import logging
import sys
import threading

import boto3
from moto.server import ThreadedMotoServer


def main() -> None:
    (bucket,) = sys.argv[1:]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",
        region_name="us-east-1",
    ).create_bucket(Bucket=bucket)
    sys.stdout.write(f"{endpoint}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main()
