-- The first result of every command that came with a key. The result is as Python made it before the
-- commit: its negative numbers count from `position`, the ledger's position before the command.
CREATE TABLE tasktrail.idempotency (
    user_id      text        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL,
    result       jsonb       NOT NULL,
    alike        jsonb,
    position     bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
SELECT tasktrail.protect('tasktrail.idempotency');
