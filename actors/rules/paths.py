"""Says where in ZooKeeper a cluster keeps what.

    /ringkeeper/NAME/ring                                    the ring, as JSON
    /ringkeeper/NAME/nodes/ID@INCARNATION.SESSION            a registered node, ephemeral
    /ringkeeper/NAME/ecs/...                                 the candidates for leader of the control service
    /ringkeeper/NAME/lock                                    who writes the ring now, ephemeral: for people and tools,
                                                             nothing is decided by it
    /ringkeeper/NAME/launchers/HOST                          a launcher, ephemeral

The session is part of a registration's name so that a node whose session was lost can register anew before its old
registration has ended: there is no moment in which it seems to be gone.
"""

from typing import NamedTuple


def root(cluster_name: str) -> str:
    return f"/ringkeeper/{cluster_name}"


def ring(cluster_name: str) -> str:
    return root(cluster_name) + "/ring"


def lock(cluster_name: str) -> str:
    return root(cluster_name) + "/lock"


def nodes(cluster_name: str) -> str:
    return root(cluster_name) + "/nodes"


def ecs(cluster_name: str) -> str:
    return root(cluster_name) + "/ecs"


def launchers(cluster_name: str) -> str:
    return root(cluster_name) + "/launchers"


class RegistrationName(NamedTuple):
    """What the name of a registration says."""

    id: str
    incarnation: str
    session: str

    def __str__(self) -> str:
        return f"{self.id}@{self.incarnation}.{self.session}"

    @classmethod
    def parse(cls, name: str) -> "RegistrationName | None":
        """None when somebody else put something there."""
        id, at, rest = name.rpartition("@")
        incarnation, dot, session = rest.partition(".")
        return cls(id, incarnation, session) if at and dot and id and incarnation and session else None
