"""Where prompts may be sent: the address of `--endpoint` and the key in the environment, checked before any question.

The address is stored with each answer and printed, so it must not hold a secret. Nothing here prints one.

Read next: llm.py.
"""

import ipaddress
import os
import re
import unicodedata
from urllib.parse import urlsplit

from minscl.errors import InputError

API_KEY_VARIABLE = "MINSCL_API_KEY"  # of the environment; most local servers need no key


def check_address(url: str, allow_remote: bool) -> None:
    """Raises InputError for anything but an http address and, unless `allow_remote`, for any host but this machine.

    A user name, a password and a query are refused: they would be stored with each answer.
    """
    if any(mark in unicodedata.normalize("NFKC", url) for mark in "@?#;%"):  # anywhere: a password may hold / itself
        raise InputError(
            "--endpoint: the address has a user name, a password or a query (one of @?#;%), and addresses are stored "
            f"with each answer; leave them out and give a key in the variable {API_KEY_VARIABLE}"
        )
    host = _host(url)
    if not host:
        raise InputError("--endpoint: not an address; give one like http://127.0.0.1:8000/v1")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not allow_remote:
        raise InputError(
            f"--endpoint {url}: {host} is another machine, and notes are patients' data; run the server here, or give "
            "--allow-remote where you are allowed to send them"
        )


def _host(url: str) -> str | None:
    """The host that an http address names; None for anything else."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # a bracket that is not closed, a port that is no number up to 65535
        return None
    return parts.hostname if valid and not re.search(r"\][^:]", parts.netloc) else None


def read_api_key() -> str:
    """The key in the environment; "none" where it is not set or empty.

    Raises InputError, without the key in it, for one that an HTTP header cannot carry.
    """
    key = os.environ.get(API_KEY_VARIABLE) or "none"
    if not re.fullmatch("[!-~]+", key):
        raise InputError(
            f"{API_KEY_VARIABLE}: the key in this variable has a space, a line break or a character beyond ASCII; set "
            "it again without"
        )
    return key
