-- A command that commit_commands has accepted, with the rows that its events fold to, and the head
-- that the ledger gets. See there for what `base` and the rows' negative numbers mean.
CREATE TYPE tasktrail.accepted AS (
    user_id       text,
    base          bigint,
    recorded_at   timestamptz,
    head          bigint,
    hash          bytea,
    key           text,
    request_hash  bytea,
    result        jsonb,
    tasks         jsonb,
    conversations jsonb,
    messages      jsonb,
    similar_to    text,
    alike         jsonb
);
