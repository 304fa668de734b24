-- What is suspected on a stream and not told yet: an airing that is heard in parts, between which the daemon dies, is
-- believed by all of them together. What was last heard longer ago than the longest gap is of no use to anybody.
CREATE TABLE candidates (
    stream      text NOT NULL REFERENCES streams (name) ON DELETE CASCADE,
    catalog     text NOT NULL,
    model_id    text NOT NULL,
    candidates  jsonb NOT NULL,
    PRIMARY KEY (stream, catalog)
);
