-- An event as a command brings it: with all but its place and its time (see commit_commands).
CREATE TYPE tasktrail.sealed AS (
    stream_type    text,
    stream_id      bigint,
    version        bigint,
    type           text,
    schema_version integer,
    event_id       uuid,
    commitment     text,  -- this and the next but one: hex digits
    body           jsonb,
    salt           text,
    content_hash   text
);
