-- An id that airs often in one catalog may be another's id as well, which never aired.
CREATE INDEX matches_reference_catalog ON matches (reference_id, catalog, state, start_at, match_id);
DROP INDEX matches_stream_reference;
CREATE INDEX matches_stream_reference ON matches (stream, reference_id, state, start_at, match_id, catalog);
