-- The ledger itself. docs/ledger-format.md says what each column means and how the hashes are made.
CREATE TABLE tasktrail.events (
    user_id        text        NOT NULL,
    position       bigint      NOT NULL,
    stream_type    text        NOT NULL,
    stream_id      bigint      NOT NULL,
    version        bigint      NOT NULL,
    type           text        NOT NULL,
    schema_version integer     NOT NULL,
    event_id       uuid        NOT NULL,
    command_id     uuid        NOT NULL,
    actor          jsonb       NOT NULL,
    commitment     bytea       NOT NULL,
    body           jsonb,
    salt           bytea,
    content_hash   bytea       NOT NULL,
    hash           bytea       NOT NULL,
    recorded_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, position),
    UNIQUE (user_id, stream_type, stream_id, version)
);
SELECT tasktrail.protect('tasktrail.events');
