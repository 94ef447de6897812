"""Does with the Python client of oras what its users' scripts do.

usage: oras_python.py COMMAND JSON, where the JSON holds the command's arguments; prints JSON.
"""

import json
import sys

import oras.auth.utils
import oras.client
import oras.decorator
import oras.oci

# Whatever is refused, it asks six times, and waits two minutes in all between.
oras.decorator.time.sleep = lambda seconds: None


def open_client(reference):
    """Whom the client comes as: with a login, it has to say so with each request. With its tokens, which are its
    default, it can't push to a registry that gives tokens for what was asked: it goes on with the first it was given,
    which is for a pull."""
    host = reference.partition("/")[0]
    if host not in oras.auth.utils.load_configs()["auths"]:
        return oras.client.OrasClient(insecure=True)
    client = oras.client.OrasClient(insecure=True, auth_backend="basic")
    # Some of its methods read the file with the logins, some do not.
    client.auth.load_configs(client.get_container(f"{host}/any"))
    return client


def login(client, host, user, password):
    return client.login(hostname=host, username=user, password=password)


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


COMMANDS = {each.__name__: each for each in (login, push, pull, tags, delete, manifest)}

if __name__ == "__main__":
    _, command, text = sys.argv
    arguments = json.loads(text)
    client = open_client(arguments.get("reference") or arguments.get("repository") or arguments["host"])
    result = COMMANDS[command](client, **arguments)
    print(json.dumps(result))
