"""Does with the Python client of oras what its users' scripts do.

usage: oras_python.py COMMAND JSON, where the JSON holds the command's arguments; prints JSON.
"""

import json
import sys

import oras.client
import oras.oci


def push(client, reference, files, annotations=None, subject=None, chunk_size=None):
    chunked = {} if chunk_size is None else {"do_chunked": True, "chunk_size": chunk_size}
    response = client.push(
        target=reference,
        files=files,
        manifest_annotations=annotations,
        subject=None if subject is None else oras.oci.Subject(**subject),
        quiet=True,
        **chunked,
    )
    return response.status_code


def pull(client, reference, folder):
    return client.pull(target=reference, outdir=folder)


def tags(client, repository, count=None):
    return client.get_tags(repository, N=count)


def delete(client, repository, tag):
    return client.delete_tags(repository, tag)


def manifest(client, reference):
    return client.get_manifest(reference)


COMMANDS = {each.__name__: each for each in (push, pull, tags, delete, manifest)}

if __name__ == "__main__":
    _, command, arguments = sys.argv
    result = COMMANDS[command](oras.client.OrasClient(insecure=True), **json.loads(arguments))
    print(json.dumps(result))
