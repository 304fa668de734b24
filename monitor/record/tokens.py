"""Who may use the API: tokens by name and scope, of which only digests are kept."""

from __future__ import annotations

import enum
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from psycopg_pool import AsyncConnectionPool

from monitor.errors import InputError
from monitor.record.border import transaction
from monitor.record.rows import seconds

#: So that scanners for leaked secrets know one.
_PREFIX = "monitor_"


class Scope(enum.StrEnum):
    """What a token allows; each scope holds those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """True if whoever has this scope may do what needs the other."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRow:
    """A token as far as it is known here."""

    name: str
    scope: Scope
    created_s: float


class Tokens:
    """All methods raise UnreachableError when PostgreSQL does not answer."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def add(self, name: str, scope: Scope) -> str:
        """A new token, which is said here and never again. Raises InputError if the name is taken."""
        token = _PREFIX + secrets.token_urlsafe(32)
        async with transaction(self._pool, "add a token") as connection:
            cursor = await connection.execute(
                "INSERT INTO tokens (name, scope, token_sha256) VALUES (%s, %s, %s) ON CONFLICT (name) DO NOTHING",
                [name, scope.value, digest(token)],
            )
            if cursor.rowcount == 0:
                raise InputError(f"there is a token {name} already; revoke it first, or choose another name")
        return token

    async def list(self) -> list[TokenRow]:
        """All tokens, by name."""
        async with transaction(self._pool, "list the tokens") as connection:
            cursor = await connection.execute("SELECT name, scope, created_at FROM tokens ORDER BY name")
            return [
                TokenRow(name=name, scope=Scope(scope), created_s=seconds(created))
                for name, scope, created in await cursor.fetchall()
            ]

    async def revoke(self, name: str) -> bool:
        """No token of that name is accepted any more; False if there was none."""
        async with transaction(self._pool, "revoke a token") as connection:
            return (await connection.execute("DELETE FROM tokens WHERE name = %s", [name])).rowcount > 0

    async def scopes(self) -> dict[str, Scope]:
        """The scope that each token's digest stands for."""
        async with transaction(self._pool, "read the tokens") as connection:
            cursor = await connection.execute("SELECT token_sha256, scope FROM tokens")
            return {sha256: Scope(scope) for sha256, scope in await cursor.fetchall()}


def digest(token: str) -> str:
    """What a token is kept as."""
    return hashlib.sha256(token.encode()).hexdigest()
