-- What a restart needs to take an airing up again, and what an airing says of the gaps within it.

ALTER TABLE matches
    -- The match ended because listening did: whoever listens next may open it again.
    ADD COLUMN interrupted boolean NOT NULL DEFAULT false,
    -- Seconds between its start and its end in which the stream was not heard.
    ADD COLUMN unheard_s double precision NOT NULL DEFAULT 0;
CREATE INDEX matches_interrupted ON matches (stream, last_hit_at) WHERE interrupted;
CREATE INDEX matches_open ON matches (last_hit_at) WHERE state IN ('provisional', 'confirmed');
