"""Says what a host name means, without the weight of a network: settings are checked before anything is loaded."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
