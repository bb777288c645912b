"""Runs code beside an actor: the observer's word that reaches behind messages."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

from pykka import ActorDeadError

from .looking import ObserveError
from .wire import WireError

if TYPE_CHECKING:
    from .system import ActorSystem

RESULT_CHARACTERS_MAX = 20_000
"""How much of a result, or of what code raised, is told."""


def py(system: ActorSystem, arguments: dict[str, Any]) -> str:
    """PY {"code": base64 of a pickled closure, "actor": name}: ``closure(actor)`` between two of its messages, as text.

    Only where code is allowed; the pickle is not looked at elsewhere.
    """
    if not system.allow_code:
        raise ObserveError("this process takes no code: it was started without allow_code (--allow-code)")
    from .code_frames import load  # imports cloudpickle, which most processes never need

    code, name = arguments.get("code"), arguments.get("actor")
    if not isinstance(code, str) or not isinstance(name, str):
        raise ObserveError('PY wants {"code": base64 of a pickled closure, "actor": the name of an actor}')
    try:
        closure = load(binascii.a2b_base64(code, strict_mode=True), system.resolve)
    except (WireError, ValueError) as error:
        raise ObserveError(f"the code cannot be read: {error}") from error
    if not callable(closure):
        raise ObserveError(f"the code is of type {type(closure).__name__}, which cannot be called with an actor")
    try:
        result = repr(system.beside(name, closure))
    except ActorDeadError as gone:
        raise ObserveError(str(gone)) from gone
    except (Exception, SystemExit) as error:
        raise ObserveError(f"the code raised {type(error).__name__}: {str(error)[:RESULT_CHARACTERS_MAX]}") from error
    return result if len(result) <= RESULT_CHARACTERS_MAX else f"{result[:RESULT_CHARACTERS_MAX]}..."
