-- Every table of the first version. Times are timestamptz; a second's unit stands in the column's name.

-- A catalog belongs to one embedder; its vectors lie in one Milvus collection.
CREATE TABLE catalogs (
    name        text PRIMARY KEY,
    embedder    text NOT NULL,
    model_id    text NOT NULL,
    dimension   integer NOT NULL CHECK (dimension > 0),
    window_s    double precision NOT NULL CHECK (window_s > 0),
    hop_s       double precision NOT NULL CHECK (hop_s > 0),
    collection  text NOT NULL UNIQUE,
    -- Raised by every change of the catalog's references (trigger below), so that a daemon knows when to look again.
    version     bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE catalog_references (
    -- number << 20 | window is the vector's id in Milvus; numbers are never used twice.
    number            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    catalog           text NOT NULL REFERENCES catalogs (name),
    reference_id      text NOT NULL CHECK (reference_id <> ''),
    state             text NOT NULL CHECK (state IN ('loading', 'ready', 'deleting')),
    path              text NOT NULL,
    title             text,
    artist            text,
    isrc              text,
    owner             text,
    label             text,
    attributes        jsonb NOT NULL DEFAULT '{}',
    duration_s        double precision NOT NULL DEFAULT 0,
    windows           integer NOT NULL DEFAULT 0 CHECK (windows BETWEEN 0 AND 1048576),
    file_sha256       text NOT NULL DEFAULT '',
    file_size_bytes   bigint NOT NULL DEFAULT 0,
    file_modified_at  timestamptz,
    audio_sha256      text NOT NULL DEFAULT '',
    added_at          timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
-- One row of each state, so that a reference stays searchable while its replacement loads.
CREATE UNIQUE INDEX catalog_references_ready ON catalog_references (catalog, reference_id) WHERE state = 'ready';
CREATE UNIQUE INDEX catalog_references_loading ON catalog_references (catalog, reference_id) WHERE state = 'loading';
CREATE INDEX catalog_references_file ON catalog_references (catalog, file_sha256);
CREATE INDEX catalog_references_audio ON catalog_references (catalog, audio_sha256);

-- The row lock on the catalog orders its writers, so whoever reads version n sees every change up to n.
CREATE FUNCTION raise_catalog_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE catalogs SET version = version + 1 WHERE name IN (SELECT catalog FROM changed);
    RETURN NULL;
END
$$;
CREATE TRIGGER catalog_references_inserted AFTER INSERT ON catalog_references
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION raise_catalog_version();
CREATE TRIGGER catalog_references_updated AFTER UPDATE ON catalog_references
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION raise_catalog_version();
CREATE TRIGGER catalog_references_deleted AFTER DELETE ON catalog_references
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION raise_catalog_version();

-- What each stream is doing now. `epoch` is the fencing token: raised by whoever starts listening.
CREATE TABLE streams (
    name         text PRIMARY KEY CHECK (name <> ''),
    epoch        bigint NOT NULL DEFAULT 0,
    state        text NOT NULL DEFAULT 'connecting' CHECK (state IN
                     ('connecting', 'receiving', 'silent', 'stalled', 'backing_off', 'paused', 'stopped')),
    reason       text,
    detail       text NOT NULL DEFAULT '',
    since        timestamptz NOT NULL DEFAULT now(),
    -- Stream time up to which the stream has been heard: a restart knows from it where its gap begins.
    heard_until  timestamptz
);

CREATE TABLE stream_states (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream  text NOT NULL,
    epoch   bigint NOT NULL,
    state   text NOT NULL,
    reason  text,
    detail  text NOT NULL,
    since   timestamptz NOT NULL,
    UNIQUE (stream, since, epoch, state)
);
CREATE INDEX stream_states_since ON stream_states (since);

-- Spans in which a stream was not heard.
CREATE TABLE gaps (
    stream    text NOT NULL,
    start_at  timestamptz NOT NULL,
    end_at    timestamptz NOT NULL CHECK (end_at > start_at),
    reason    text NOT NULL,
    epoch     bigint NOT NULL,
    PRIMARY KEY (stream, start_at)
);
CREATE INDEX gaps_start ON gaps (start_at, stream);
CREATE INDEX gaps_end ON gaps (end_at);

-- One row per airing, under one id from provisional to its end; holds all that restores a run after a restart.
CREATE TABLE matches (
    match_id           uuid PRIMARY KEY,
    stream             text NOT NULL,
    catalog            text NOT NULL,
    reference_id       text NOT NULL,
    state              text NOT NULL CHECK (state IN ('provisional', 'confirmed', 'ended', 'retracted')),
    start_at           timestamptz NOT NULL,
    end_at             timestamptz NOT NULL,
    reference_start_s  double precision NOT NULL,
    reference_end_s    double precision NOT NULL,
    origin_at          timestamptz NOT NULL,
    tempo_ratio        double precision NOT NULL,
    evidence_nats      double precision NOT NULL,
    score              double precision NOT NULL,
    last_hit_at        timestamptz NOT NULL,
    model_id           text NOT NULL,
    epoch              bigint NOT NULL,
    -- The newest event that this row shows.
    sequence           integer NOT NULL,
    decided_at         timestamptz NOT NULL,
    -- The reference as it was described when it aired: a log outlives its catalog.
    title              text,
    artist             text,
    isrc               text,
    owner              text,
    label              text,
    recorded_at        timestamptz NOT NULL DEFAULT now()
);
-- Listings are the newest first, one index range per state, so that any filter stays a short scan.
CREATE INDEX matches_state ON matches (state, start_at, match_id);
CREATE INDEX matches_stream ON matches (stream, state, start_at, match_id);
CREATE INDEX matches_reference ON matches (reference_id, state, start_at, match_id);

CREATE TABLE match_events (
    -- The order in which events were written, for readers that resume.
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    match_id           uuid NOT NULL REFERENCES matches (match_id) ON DELETE CASCADE,
    sequence           integer NOT NULL CHECK (sequence >= 0),
    state              text NOT NULL,
    decided_at         timestamptz NOT NULL,
    start_at           timestamptz NOT NULL,
    end_at             timestamptz NOT NULL,
    reference_start_s  double precision NOT NULL,
    reference_end_s    double precision NOT NULL,
    evidence_nats      double precision NOT NULL,
    score              double precision NOT NULL,
    recorded_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (match_id, sequence)
);

-- One partition per UTC day, made when its first hit comes and dropped by retention.
CREATE TABLE match_hits (
    match_id           uuid NOT NULL,
    window_start_at    timestamptz NOT NULL,
    reference_start_s  double precision NOT NULL,
    similarity         real NOT NULL,
    PRIMARY KEY (match_id, window_start_at, reference_start_s)
) PARTITION BY RANGE (window_start_at);

-- The outbox: one row per event and webhook, written with the event, deleted only by retention.
CREATE TABLE deliveries (
    -- Sent as `webhook-id`, the same at every attempt.
    delivery_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    endpoint         text NOT NULL,
    match_id         uuid NOT NULL,
    sequence         integer NOT NULL,
    -- Exactly what is signed and sent, at every attempt.
    body             text NOT NULL,
    state            text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts         integer NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    next_attempt_at  timestamptz NOT NULL,
    finished_at      timestamptz,
    status_code      integer,
    reason           text,
    detail           text NOT NULL DEFAULT '',
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    UNIQUE (match_id, sequence, endpoint)
);
CREATE INDEX deliveries_due ON deliveries (endpoint, next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_created ON deliveries (created_at, delivery_id);
CREATE INDEX deliveries_dead ON deliveries (created_at, delivery_id) WHERE state = 'dead';
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE state <> 'pending';

-- An endpoint that answered 410 Gone stays disabled until its URL changes or a replay is asked for.
CREATE TABLE disabled_endpoints (
    endpoint     text PRIMARY KEY,
    -- The URL may hold a token, so only its digest is kept.
    url_sha256   text NOT NULL,
    disabled_at  timestamptz NOT NULL
);
