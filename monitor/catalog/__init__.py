"""The recordings that streams are compared with: rows in PostgreSQL, vectors in Milvus, joined by number."""

from __future__ import annotations
