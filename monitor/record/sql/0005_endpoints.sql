-- What is known of each webhook endpoint, so that a restart, a second daemon and the command line know it too.
CREATE TABLE webhook_endpoints (
    endpoint     text PRIMARY KEY,
    -- The URL may hold a token, so only its digest is kept. Another URL begins anew.
    url_sha256   text NOT NULL,
    -- Attempts in a row that failed through the endpoint's fault, or that of the way to it.
    failures     integer NOT NULL DEFAULT 0,
    -- Nothing is sent before then.
    held_until   timestamptz,
    -- Since it answered 410 Gone: nothing is sent until it is enabled.
    disabled_at  timestamptz,
    -- Right to a minute.
    accepted_at  timestamptz,
    failed_at    timestamptz,
    -- Of the last failure.
    reason       text,
    status_code  integer,
    detail       text NOT NULL DEFAULT ''
);
INSERT INTO webhook_endpoints (endpoint, url_sha256, disabled_at, reason, status_code)
    SELECT endpoint, url_sha256, disabled_at, 'gone', 410 FROM disabled_endpoints;
DROP TABLE disabled_endpoints;
