"""The embedded PostgreSQL and Milvus Lite of one data directory, and the keeper that runs them while they are used."""

from __future__ import annotations
