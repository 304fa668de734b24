from __future__ import annotations

import psycopg


async def test_each_test_gets_an_empty_migrated_database(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT count(*) FROM matches")
        assert await cursor.fetchone() == (0,)
        cursor = await connection.execute("SHOW server_encoding")
        assert await cursor.fetchone() == ("UTF8",)
        cursor = await connection.execute("SELECT lower('ÄÖ'), 'Z' < 'a'")
        assert await cursor.fetchone() == ("äö", True)
        cursor = await connection.execute("INSERT INTO streams (name) VALUES ('one')")


def test_milvus_answers_on_its_socket(milvus_lite: str) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(milvus_lite)
    client.create_collection("fixture", dimension=4)
    client.insert("fixture", [{"id": 1, "vector": [1.0, 0.0, 0.0, 0.0]}])
    assert client.search("fixture", [[1.0, 0.0, 0.0, 0.0]])[0][0]["id"] == 1
    client.drop_collection("fixture")
    client.close()
