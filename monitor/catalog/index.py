"""The vectors of one catalog in Milvus, Lite or a full server, by the same calls.

One IVF_FLAT index from birth, made together with the collection: on a full server a rebuild takes the collection away
from searches for 20 to 40 s per 100,000 vectors, and on Milvus Lite a large one outlasts the connection. What follows
the size is how many of the index's lists a search reads: all of them, which is exact, while that is cheap, then ever
fewer of 1024, down to 64. HNSW was no faster at a million vectors of 128 dimensions (256 queries: 139 ms against 141
ms, with 32 lists), took three times as long to build and lost recall at equal speed (0.82 to 0.99 against 1.0).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.exceptions import ConnectionConfigException, ParamError

from monitor.errors import ConfigError, MonitorError, ServerReason, StorageError, UnreachableError
from monitor.masking import mask_text, mask_url
from monitor.types import Vectors

Ids = NDArray[np.int64]

#: Bits of a vector's id that count the windows of one reference: 72 hours at a hop of 0.25 s.
WINDOW_BITS = 20
MAX_WINDOWS = 1 << WINDOW_BITS
LISTS = 1024
#: A search reads so many lists that a query is compared with about so many values (vectors times dimension), all lists
#: where that is all there is. Of windows of degraded airings, most of them hardly like anything, a quarter of the lists
#: keeps the nearest for 99.8 % and costs a third of all; a sixteenth keeps it for 95 %.
READ_VALUES = 25_000 * 128
LEAST_LISTS = 64
#: How far a stored vector's length may be from 1. Milvus Lite returns damaged vectors without a word.
NORM_TOLERANCE = 1e-3
#: Bytes of vectors in one call: full servers refuse messages over 64 MiB, and text costs several bytes a value.
_CALL_BYTES = 4 << 20
_CALL_ROWS = 8192
_WRITE_TIMEOUT_S = 300.0
#: Bytes of a row's text that Milvus takes at most.
_LONGEST_TEXT = 65_535
_NOT_LOADED = 101

#: A channel of its own has no share in the back-off of earlier ones, up to two minutes long after an outage; and it
#: stays under the server's limits of pings, which pymilvus's defaults break: long calls were cut off, and a connection
#: that nothing was asked on for twenty minutes, where no ping is allowed.
CHANNEL = {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.keepalive_time_ms": 400_000,
    "grpc.keepalive_permit_without_calls": 0,
}

# They write, some with a traceback, what is raised as well.
for _name in ("decorators", "client.connection_manager", "client.iterator.query_iterator"):
    logging.getLogger(f"pymilvus.{_name}").setLevel(logging.CRITICAL)
log = logging.getLogger(__name__)


def vector_id(number: int, window: int) -> int:
    """The id under which the vector of reference `number`'s window lies: known without asking, never used twice."""
    return number << WINDOW_BITS | window


def damaged(vectors: Vectors) -> NDArray[np.bool_]:
    """Which of the rows of (n, dimension) no embedder can have given: not finite, or not of length 1."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        return np.asarray(~(np.abs(lengths - 1.0) <= NORM_TOLERANCE))


class VectorIndex:
    """One collection. Every method blocks, so call it from a thread; several threads may share an index.

    Methods raise UnreachableError with the reason, or StorageError when the server's disk is full. Writers take turns
    by a lock of their own (see `loader`): Milvus Lite does not support several at once.
    """

    def __init__(
        self, *, uri: str, token: str | None, collection: str, dimension: int, timeout_s: float = 20.0
    ) -> None:
        self.collection = collection
        self.dimension = dimension
        self._shown_uri = mask_url(uri)
        self._timeout_s = timeout_s
        #: How many of the index's lists a search reads.
        self.lists_read = LISTS
        with self._errors("connect"):
            self._client: Any = MilvusClient(
                uri, token=token or "", timeout=timeout_s, dedicated=True, grpc_options=CHANNEL
            )

    def ensure(self) -> None:
        """The collection exists with its index and is loaded. ConfigError if it is there with another dimension."""
        with self._errors("prepare the catalog"):
            if not self._client.has_collection(self.collection, timeout=self._timeout_s):
                self._create()
            described = self._client.describe_collection(self.collection, timeout=self._timeout_s)
            fields = {field["name"]: field for field in described["fields"]}
            if "levels" not in fields:
                raise ConfigError(
                    f"collection {self.collection} at {self._shown_uri} was made by an earlier version, which kept no"
                    " levels with its vectors; load the recordings into another catalog (monitor catalog add --catalog"
                    " NAME) and name that one in the configuration"
                )
            found = fields["vector"]["params"]["dim"]
            if found != self.dimension:
                raise ConfigError(
                    f"collection {self.collection} at {self._shown_uri} holds vectors of {found} dimensions, the model"
                    f" gives {self.dimension}; name another catalog, or remove this one"
                )
            if not self._client.list_indexes(self.collection, timeout=self._timeout_s):
                # Left by a process that ended between the two calls that create a collection.
                self._client.create_index(self.collection, self._index(), timeout=_WRITE_TIMEOUT_S)
            # After a restart of Milvus Lite an indexed collection is there, but not loaded.
            self._client.load_collection(self.collection, timeout=_WRITE_TIMEOUT_S)

    def server_version(self) -> str:
        """What the server says of itself."""
        with self._errors("ask for its version"):
            return str(self._client.get_server_version(timeout=self._timeout_s))

    def fit_search_to_size(self, vectors: int) -> str:
        """Make searches right for a catalog of that many vectors, and say how they are done."""
        wanted = math.ceil(LISTS * READ_VALUES / max(vectors * self.dimension, 1))
        self.lists_read = min(max(wanted, LEAST_LISTS), LISTS)
        return "exact" if self.lists_read == LISTS else f"approximate: {self.lists_read} of {LISTS} lists"

    def insert(self, ids: Ids, vectors: Vectors, levels: Sequence[str]) -> None:
        """Vectors (n, dimension), and their frames' levels as text, lie under their ids (n,), also when a retry writes
        them twice.

        Raises ValueError for vectors that `damaged` names: a full server refuses NaN, Milvus Lite takes it.
        """
        if vectors.shape != (len(ids), self.dimension):
            raise ValueError(f"{len(ids)} ids do not fit vectors of shape {vectors.shape}, dimension {self.dimension}")
        if damaged(vectors).any():
            raise ValueError("a vector is not finite or not of length 1")
        with self._errors("write vectors"):
            for start, stop in self._calls(len(ids)):
                rows = [
                    {"id": int(key), "vector": vector, "levels": text}
                    for key, vector, text in zip(ids[start:stop], vectors[start:stop], levels[start:stop], strict=True)
                ]
                # Not `insert`: repeated after a lost answer, it would store a second copy on a full server.
                self._client.upsert(self.collection, rows, timeout=_WRITE_TIMEOUT_S)

    def delete_reference(self, number: int, windows: int = MAX_WINDOWS) -> None:
        """No vector of the reference's first `windows` windows is left."""
        first = vector_id(number, 0)
        with self._errors("delete vectors"):
            if windows <= _CALL_ROWS:
                # By id: a filter makes Milvus Lite read every row of the collection.
                ids = list(range(first, first + windows))
                if ids:
                    self._client.delete(self.collection, ids=ids, timeout=_WRITE_TIMEOUT_S)
            else:
                within = f"id >= {first} and id < {first + windows}"
                self._client.delete(self.collection, filter=within, timeout=_WRITE_TIMEOUT_S)

    def flush(self) -> None:
        """All written vectors are in segments: Milvus Lite searches unwritten ones a hundred times more slowly."""
        with self._errors("write vectors out"):
            self._client.flush(self.collection, timeout=_WRITE_TIMEOUT_S)

    def drop(self) -> None:
        """The collection does not exist."""
        with self._errors("drop the catalog"):
            self._client.drop_collection(self.collection, timeout=_WRITE_TIMEOUT_S)

    def count(self, number: int) -> int:
        """How many vectors of the reference are stored."""
        first = vector_id(number, 0)
        return self._count(f"id >= {first} and id < {first + MAX_WINDOWS}")

    def count_all(self) -> int:
        """How many vectors are stored in all."""
        return self._count("")

    def vectors(self, ids: Ids | Sequence[int]) -> tuple[Ids, Vectors]:
        """The ids that exist among `ids`, ascending, and their vectors (n, dimension), as stored: see `damaged`."""
        wanted = np.unique(np.asarray(ids, dtype=np.int64))
        found: list[Ids] = []
        vectors: list[Vectors] = []
        for start, stop in self._calls(len(wanted)):
            rows = self._query(ids=wanted[start:stop].tolist(), output_fields=["id", "vector"])
            if rows:
                found.append(np.array([row["id"] for row in rows], dtype=np.int64))
                vectors.append(np.array([row["vector"] for row in rows], dtype=np.float32))
        if not found:
            return np.empty(0, dtype=np.int64), np.empty((0, self.dimension), dtype=np.float32)
        keys = np.concatenate(found)
        order = np.argsort(keys)
        return keys[order], np.concatenate(vectors)[order]

    def levels(self, ids: Ids | Sequence[int]) -> tuple[Ids, list[str]]:
        """The ids that exist among `ids`, ascending, and their frames' levels as text."""
        wanted = np.unique(np.asarray(ids, dtype=np.int64))
        found: dict[int, str] = {}
        for start, stop in self._calls(len(wanted)):
            rows = self._query(ids=wanted[start:stop].tolist(), output_fields=["id", "levels"])
            found.update((row["id"], row["levels"]) for row in rows)
        keys = sorted(found)
        return np.array(keys, dtype=np.int64), [found[key] for key in keys]

    def numbers(self) -> dict[int, int]:
        """Every reference number of which a vector is stored, with how many are. Reads the whole collection's ids."""
        counts: dict[int, int] = {}
        # An iterator reads at no agreed time; after a strong read it sees what that one saw.
        self.count_all()
        with self._errors("list vectors"):
            iterator = self._client.query_iterator(
                self.collection, batch_size=_CALL_ROWS, output_fields=["id"], timeout=_WRITE_TIMEOUT_S
            )
            try:
                while rows := iterator.next():
                    for row in rows:
                        number = row["id"] >> WINDOW_BITS
                        counts[number] = counts.get(number, 0) + 1
            finally:
                iterator.close()
        return counts

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Vectors]:
        """Ids and similarities (inner products), each (Q, k), best first, of the nearest vectors to queries (Q, d).

        A vector is sure to be seen once `vectors` or `count` has seen it; before, a full server may be seconds late.
        Where fewer were found the id is -1 and the similarity -inf. So it is for a neighbour whose similarity no pair
        of unit vectors has: it is damaged, which is logged.
        """
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
        for start, stop in self._calls(len(queries)):
            for row, hits in enumerate(self._search(queries[start:stop], k), start):
                ids[row, : len(hits.ids)] = hits.ids
                similarities[row, : len(hits.ids)] = hits.distances
        broken = (ids >= 0) & ~(np.abs(similarities) <= 1.0 + NORM_TOLERANCE)
        if broken.any():
            log.warning(
                "the catalog holds damaged vectors (reference number %d, for one): run monitor catalog verify --repair",
                int(ids[broken][0]) >> WINDOW_BITS,
                extra={"action": "catalog_vectors_damaged", "collection": self.collection},
            )
            ids[broken] = -1
            similarities[broken] = -np.inf
        return ids, similarities

    def close(self) -> None:
        """The connection is given back."""
        self._client.close()

    def _create(self) -> None:
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        schema.add_field("levels", DataType.VARCHAR, max_length=_LONGEST_TEXT)
        try:
            self._client.create_collection(
                self.collection, schema=schema, index_params=self._index(), timeout=_WRITE_TIMEOUT_S
            )
        except MilvusException:
            # Another process may have been faster; if not, the error stands.
            if not self._client.has_collection(self.collection, timeout=self._timeout_s):
                raise

    def _index(self) -> Any:
        params = self._client.prepare_index_params()
        # Twice nested: Milvus Lite reads only a key "params", full servers take both forms.
        params.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"params": {"nlist": LISTS}})
        return params

    def _search(self, queries: Vectors, k: int) -> Any:
        def search() -> Any:
            return self._client.search(
                self.collection,
                queries,
                limit=k,
                # Named, since Milvus Lite sends the vectors too where no field is.
                output_fields=["id"],
                search_params={"metric_type": "IP", "params": {"nprobe": self.lists_read}},
                # What a row calls ready was counted under Strong, so it is there; waiting would cost 0.2 s a call.
                consistency_level="Bounded",
                timeout=self._timeout_s,
            )

        with self._errors("search"):
            return self._loaded(search)

    def _count(self, within: str) -> int:
        return int(self._query(filter=within, output_fields=["count(*)"])[0]["count(*)"])

    def _query(self, **what: Any) -> Any:
        def query() -> Any:
            return self._client.query(self.collection, consistency_level="Strong", timeout=self._timeout_s, **what)

        with self._errors("read vectors"):
            return self._loaded(query)

    def _loaded(self, call: Any) -> Any:
        try:
            return call()
        except MilvusException as error:
            if error.code != _NOT_LOADED:
                raise
            self._load()
            return call()

    def _load(self) -> None:
        self._client.load_collection(self.collection, timeout=_WRITE_TIMEOUT_S)

    def _calls(self, rows: int) -> Iterator[tuple[int, int]]:
        step = max(1, min(_CALL_ROWS, _CALL_BYTES // (4 * self.dimension)))
        return ((start, min(start + step, rows)) for start in range(0, rows, step))

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ConnectionConfigException as error:
            raise ConfigError(f"{self._shown_uri} is no address of a Milvus server: {error.message}") from error
        except (MilvusException, ParamError, grpc.RpcError) as error:
            raise self._error(doing, error) from error

    def _error(self, doing: str, error: Exception) -> MonitorError:
        code = error.code() if isinstance(error, grpc.RpcError) else getattr(error, "code", None)
        said = error.details() if isinstance(error, grpc.RpcError) else getattr(error, "message", None)
        said = mask_text(" ".join(str(said or error).split()))
        if "no space left" in said.lower():
            return StorageError(f"cannot {doing}: the disk of Milvus at {self._shown_uri} is full; make room")
        match code:
            case 2 | grpc.StatusCode.UNAVAILABLE:
                reason, advice = ServerReason.UNREACHABLE, "check that Milvus runs and that its address is right"
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                reason, advice = ServerReason.TIMEOUT, "check that Milvus answers and is not overloaded"
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
                reason, advice = ServerReason.REJECTED, "check its token"
            case _:
                reason, advice = ServerReason.REJECTED, "see the server's log"
        return UnreachableError(f"cannot {doing} at Milvus {self._shown_uri}: {said}; {advice}", reason)
