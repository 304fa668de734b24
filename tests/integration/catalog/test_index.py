from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.catalog.index import LISTS, VectorIndex, damaged, vector_id
from monitor.errors import ConfigError, ServerReason, UnreachableError
from monitor.servers.milvus import Milvus
from monitor.servers.process import running
from tests.integration.catalog.conftest import plain_client, unit_vectors

MakeIndex = Callable[..., VectorIndex]


def _ids(number: int, windows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([vector_id(number, window) for window in range(windows)], dtype=np.int64)


def test_what_was_written_is_found_counted_and_read_back(make_index: MakeIndex) -> None:
    index = make_index()
    index.ensure()
    vectors = unit_vectors(500)
    index.insert(_ids(7, 300), vectors[:300], [""] * 300)
    index.insert(_ids(8, 200), vectors[300:], [""] * 200)
    assert (index.count(7), index.count(8), index.count(9), index.count_all()) == (300, 200, 0, 500)
    assert index.numbers() == {7: 300, 8: 200}
    found, stored = index.vectors([vector_id(8, 199), vector_id(7, 3), vector_id(7, 999)])
    assert found.tolist() == [vector_id(7, 3), vector_id(8, 199)]
    np.testing.assert_allclose(stored, vectors[[3, 499]], atol=1e-6)


def test_levels_lie_beside_the_vectors(make_index: MakeIndex) -> None:
    index = make_index()
    index.ensure()
    rows = ["".join(chr(33 + (7 * row + n) % 94) for n in range(128)) for row in range(300)]
    index.insert(_ids(7, 300), unit_vectors(300), rows)
    found, texts = index.levels([vector_id(7, 299), vector_id(7, 3), vector_id(8, 3)])
    assert (found.tolist(), texts) == ([vector_id(7, 3), vector_id(7, 299)], [rows[3], rows[299]])


def test_a_search_gives_the_exact_neighbours_in_order(make_index: MakeIndex) -> None:
    index = make_index()
    index.ensure()
    vectors, queries = unit_vectors(3000), unit_vectors(40, seed=1)
    index.insert(_ids(1, 3000), vectors, [""] * 3000)
    products = queries @ vectors.T
    nearest = np.argsort(-products, axis=1)[:, :10]
    assert index.count(1) == 3000
    for flushed in (False, True):
        if flushed:
            index.flush()
        ids, similarities = index.search(queries, 10)
        assert (ids - vector_id(1, 0) == nearest).all()
        np.testing.assert_allclose(similarities, np.take_along_axis(products, nearest, axis=1), atol=1e-5)


def test_fewer_vectors_than_asked_for_leave_the_rest_empty(make_index: MakeIndex) -> None:
    index = make_index()
    index.ensure()
    assert (index.search(unit_vectors(2), 3)[0] == -1).all()
    index.insert(_ids(1, 2), unit_vectors(2), [""] * 2)
    assert index.count_all() == 2
    ids, similarities = index.search(unit_vectors(2), 3)
    first, second = _ids(1, 2).tolist()
    assert ids.tolist() == [[first, second, -1], [second, first, -1]]
    assert similarities[:, 2].tolist() == [-np.inf, -np.inf]


def test_writing_twice_stores_once(make_index: MakeIndex) -> None:
    index = make_index()
    index.ensure()
    for seed in (0, 1):
        index.insert(_ids(1, 50), unit_vectors(50, seed=seed), [""] * 50)
    assert index.count_all() == 50
    np.testing.assert_allclose(index.vectors(_ids(1, 50))[1], unit_vectors(50, seed=1), atol=1e-6)


def test_a_search_right_after_counting_sees_everything(make_index: MakeIndex) -> None:
    index = make_index()
    index.ensure()
    for number in range(1, 8):
        vectors = unit_vectors(20, seed=number)
        index.insert(_ids(number, 20), vectors, [""] * 20)
        assert len(index.vectors(_ids(number, 20))[0]) == 20
        assert index.search(vectors, 1)[0][:, 0].tolist() == _ids(number, 20).tolist()


@pytest.mark.parametrize("windows", [600, 10_000])
def test_deleting_a_reference_leaves_the_others(make_index: MakeIndex, windows: int) -> None:
    index = make_index()
    index.ensure()
    for number in (1, 2, 3):
        index.insert(_ids(number, 600), unit_vectors(600, seed=number), [""] * 600)
    index.delete_reference(2, windows)
    assert index.numbers() == {1: 600, 3: 600}
    ids, _ = index.search(unit_vectors(600, seed=2), 5)
    assert set((ids >> 20).ravel()) == {1, 3}
    index.delete_reference(2)
    assert index.count_all() == 1200


@pytest.mark.parametrize("value", [np.nan, np.inf, 37.8, 0.0])
def test_vectors_that_no_embedder_gives_are_refused(make_index: MakeIndex, value: float) -> None:
    index = make_index()
    index.ensure()
    vectors = unit_vectors(3)
    vectors[1] = value
    with pytest.raises(ValueError, match="not finite or not of length 1"):
        index.insert(_ids(1, 3), vectors, [""] * 3)
    assert index.count_all() == 0


def test_a_damaged_vector_neither_wins_a_search_nor_stays_unseen(
    make_index: MakeIndex, milvus_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = make_index()
    index.ensure()
    vectors = unit_vectors(5)
    index.insert(_ids(1, 5), vectors, [""] * 5)
    with plain_client(milvus_uri) as client:
        client.upsert(index.collection, [{"id": vector_id(1, 2), "vector": vectors[0] * 37.8, "levels": ""}])
    assert damaged(index.vectors(_ids(1, 5))[1]).tolist() == [False, False, True, False, False]
    with caplog.at_level(logging.WARNING):
        ids, similarities = index.search(vectors[:1], 5)
    assert vector_id(1, 2) not in ids
    assert similarities.max() <= 1.001
    assert [record.action for record in caplog.records] == ["catalog_vectors_damaged"]  # type: ignore[attr-defined]


def test_the_index_is_made_with_the_collection_and_keeps_its_parameters(make_index: MakeIndex, milvus_uri: str) -> None:
    index = make_index()
    index.ensure()
    with plain_client(milvus_uri) as client:
        described = client.describe_index(index.collection, "vector")
    assert (described["index_type"], described["metric_type"]) == ("IVF_FLAT", "IP")
    assert int(described["params"]["nlist"]) == LISTS


def test_a_collection_that_lost_its_index_gets_it_again(make_index: MakeIndex, milvus_uri: str) -> None:
    index = make_index()
    index.ensure()
    vectors = unit_vectors(10)
    index.insert(_ids(1, 10), vectors, [""] * 10)
    with plain_client(milvus_uri) as client:
        client.release_collection(index.collection)
        client.drop_index(index.collection, "vector")
        index.ensure()
        assert client.list_indexes(index.collection) == ["vector"]
    assert index.search(vectors, 1)[0][:, 0].tolist() == _ids(1, 10).tolist()


def test_a_released_collection_is_loaded_by_the_next_call(make_index: MakeIndex, milvus_uri: str) -> None:
    index = make_index()
    index.ensure()
    vectors = unit_vectors(10)
    index.insert(_ids(1, 10), vectors, [""] * 10)
    with plain_client(milvus_uri) as client:
        for call in (lambda: index.search(vectors, 1), index.count_all):
            client.release_collection(index.collection)
            call()


def test_a_large_catalog_is_searched_in_part_and_still_found(make_index: MakeIndex) -> None:
    index = make_index(dimension=128)
    index.ensure()
    vectors = unit_vectors(20_000, dimension=128)
    index.insert(_ids(1, 20_000), vectors, [""] * 20_000)
    index.flush()
    noisy = vectors[::100] + 0.3 * unit_vectors(200, dimension=128, seed=3)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    assert index.fit_search_to_size(20_000) == "exact"
    assert index.search(noisy, 1)[0][:, 0].tolist() == _ids(1, 20_000)[::100].tolist()
    assert index.fit_search_to_size(1_000_000) == "approximate: 64 of 1024 lists"
    found = index.search(noisy, 1)[0][:, 0]
    assert np.mean(found == _ids(1, 20_000)[::100]) >= 0.98


def test_a_collection_of_another_dimension_is_refused_with_both(make_index: MakeIndex) -> None:
    make_index(dimension=16, collection="test_dimension").ensure()
    with pytest.raises(ConfigError, match="holds vectors of 16 dimensions, the model gives 32"):
        make_index(dimension=32, collection="test_dimension").ensure()


def test_a_collection_of_an_earlier_version_is_refused_with_what_to_do(make_index: MakeIndex, milvus_uri: str) -> None:
    with plain_client(milvus_uri) as client:
        client.create_collection("test_earlier", dimension=16, metric_type="IP")
    with pytest.raises(ConfigError, match=r"kept no levels with its vectors; load .* \(monitor catalog add --catalog"):
        make_index(collection="test_earlier").ensure()


@pytest.mark.parametrize("uri", ["http://user:pa55word@127.0.0.1:1", "unix:/nowhere/milvus:19530"])
def test_a_server_that_does_not_answer_is_unreachable(uri: str) -> None:
    with pytest.raises(UnreachableError, match="check that Milvus runs") as caught:
        VectorIndex(uri=uri, token=None, collection="any", dimension=16, timeout_s=1)
    assert caught.value.reason is ServerReason.UNREACHABLE
    assert "pa55word" not in str(caught.value)


def test_an_address_that_is_none_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="ftp://host is no address of a Milvus server"):
        VectorIndex(uri="ftp://host", token=None, collection="any", dimension=16)


def test_milvus_lite_killed_and_started_again_goes_on_under_the_same_index(data_dir: Path) -> None:
    server = Milvus(directory=data_dir / "files", socket_dir=data_dir / "socket")
    vectors = unit_vectors(30)
    with running(server, log=data_dir / "log") as uri:
        index = VectorIndex(uri=uri, token=None, collection="kept", dimension=16, timeout_s=5)
        index.ensure()
        index.insert(_ids(1, 30), vectors, [""] * 30)
        index.flush()
    with pytest.raises(UnreachableError):
        index.search(vectors, 1)
    with running(server, log=data_dir / "log"):
        assert index.search(vectors, 1)[0][:, 0].tolist() == _ids(1, 30).tolist()
        index.close()
