"""Decides who may do what: identities against the access lists of znodes.

Schemes: ``world:anyone``, ``digest:user:base64(sha1(user:password))``, ``ip:address[/bits]``, and ``auth``, which
stands for "whoever I have proved to be" and is replaced by those identities before anything is stored.
"""

import base64
import hashlib
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from .records import Acl, Acls, Code, Identity, Permission, Refused

ACLS_MAX = 1024
"""Entries of one access list; every access to the znode walks it."""


def digest_identity(credentials: bytes) -> Identity:
    """The identity of somebody who knows ``user:password``.

    SHA-1 is what the protocol prescribes; it guards these passwords badly, so do not use ones that matter elsewhere.
    """
    user = credentials.split(b":", 1)[0].decode("utf-8", "replace")
    return Identity("digest", f"{user}:{base64.b64encode(hashlib.sha1(credentials).digest()).decode()}")


def allows(acls: Acls, permission: Permission, identities: Iterable[Identity]) -> bool:
    for acl in acls:
        if not acl.permissions & permission:
            continue
        if acl.scheme == "world" and acl.id == "anyone":
            return True
        for identity in identities:
            if identity.scheme == acl.scheme and (
                identity.id == acl.id or (acl.scheme == "ip" and _inside(identity.id, acl.id))
            ):
                return True
    return False


def _inside(address: str, network: str) -> bool:
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return False


def checked(acls: Acls, identities: Iterable[Identity]) -> Acls:
    """The list as it is stored: ``auth`` replaced, doubles dropped. Raises Refused(INVALID_ACL)."""
    if not acls:
        raise Refused(Code.INVALID_ACL, "an access list must not be empty")
    if len(acls) > ACLS_MAX:
        raise Refused(Code.INVALID_ACL, f"an access list has at most {ACLS_MAX} entries")
    kept: dict[Acl, None] = {}
    for acl in acls:
        if acl.scheme == "auth":
            proved = [Acl(acl.permissions, *identity) for identity in identities if identity.scheme == "digest"]
            if not proved:
                raise Refused(Code.INVALID_ACL, "scheme auth, but this connection has not authenticated")
            kept.update(dict.fromkeys(proved))
        elif _is_valid(acl):
            kept[acl] = None
        else:
            raise Refused(Code.INVALID_ACL, f"no such identity: {acl.scheme}:{acl.id}")
    return tuple(kept)


def _is_valid(acl: Acl) -> bool:
    match acl.scheme:
        case "world":
            return acl.id == "anyone"
        case "digest":
            return len(acl.id.split(":")) == 2
        case "ip":
            try:
                ip_network(acl.id, strict=False)
            except ValueError:
                return False
            return True
        case _:
            return False


def masked(acls: Acls) -> Acls:
    """The list as shown to somebody without ADMIN: who is on it, but not the digests of their passwords."""
    return tuple(acl._replace(id=acl.id.split(":", 1)[0] + ":x") if acl.scheme == "digest" else acl for acl in acls)
