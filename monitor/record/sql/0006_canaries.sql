-- Which catalogs hold the vectors of their canary, under number 0, and when one was recognised last.
CREATE TABLE canaries (
    catalog        text PRIMARY KEY REFERENCES catalogs (name) ON DELETE CASCADE,
    -- Of the sound that the vectors were made from: another version of the song is planted anew.
    song_sha256    text NOT NULL,
    planted_at     timestamptz NOT NULL DEFAULT now(),
    recognised_at  timestamptz
);
