-- One row per user: the last position and its hash. Whoever appends locks this row first.
CREATE TABLE tasktrail.ledgers (
    user_id          text        NOT NULL PRIMARY KEY,
    position         bigint      NOT NULL DEFAULT 0,
    hash             bytea       NOT NULL,
    last_recorded_at timestamptz NOT NULL
) WITH (fillfactor = 50);
SELECT tasktrail.protect('tasktrail.ledgers');
