-- What the API keeps (tokens, streams), and what its listings need to stay short scans whatever is asked.

-- A token itself is shown once and never kept: it has 256 bits of chance, so a plain digest cannot be turned back.
CREATE TABLE tokens (
    name          text PRIMARY KEY CHECK (name <> ''),
    scope         text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    token_sha256  text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- Streams that were added through the API, beside those of the configuration file.
CREATE TABLE api_streams (
    name        text PRIMARY KEY CHECK (name <> ''),
    -- An entry of `streams` as the configuration file would have it.
    definition  jsonb NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now()
);

-- Streams, of the file too, that were paused or resumed through the API: this counts before `paused` of their entry.
CREATE TABLE stream_pauses (
    name        text PRIMARY KEY,
    paused      boolean NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now()
);

-- Each pair and triple of filters is one index range per state, newest first.
CREATE INDEX matches_catalog ON matches (catalog, state, start_at, match_id);
CREATE INDEX matches_stream_catalog ON matches (stream, catalog, state, start_at, match_id);
CREATE INDEX matches_stream_reference ON matches (stream, reference_id, state, start_at, match_id);

-- How the references that ever aired were described: few rows, in which words are looked for in place of the log.
CREATE TABLE aired_references (
    reference_id  text NOT NULL,
    -- Id, title, artist, isrc, owner and label in lower case.
    words         text NOT NULL
);
CREATE UNIQUE INDEX aired_references_once ON aired_references (reference_id, md5(words));

CREATE FUNCTION words_of(reference_id text, title text, artist text, isrc text, owner text, label text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT lower(reference_id || coalesce(' ' || title, '') || coalesce(' ' || artist, '') || coalesce(' ' || isrc, '')
        || coalesce(' ' || owner, '') || coalesce(' ' || label, ''))
$$;

INSERT INTO aired_references
    SELECT DISTINCT reference_id, words_of(reference_id, title, artist, isrc, owner, label) FROM matches;

CREATE FUNCTION note_aired_references() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO aired_references
        SELECT DISTINCT reference_id, words_of(reference_id, title, artist, isrc, owner, label) FROM written
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER matches_inserted AFTER INSERT ON matches
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION note_aired_references();

-- References are listed by catalog and id, whatever their state.
CREATE INDEX catalog_references_listed ON catalog_references (catalog, reference_id, number);
