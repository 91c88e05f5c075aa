-- Signed statements over the heads of all ledgers (mcp_server.evidence.checkpoint), and the heads they are
-- about: of each ledger only where it had moved on since the checkpoint before.
CREATE TABLE tasktrail.checkpoints (
    number     bigint      NOT NULL PRIMARY KEY CHECK (number > 0),
    note       text        NOT NULL,
    key        text        NOT NULL, -- the public key: whoever trusts nobody brings their own
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON tasktrail.checkpoints TO tasktrail_app, tasktrail_operator, tasktrail_auditor;
GRANT INSERT ON tasktrail.checkpoints TO tasktrail_operator;

CREATE TABLE tasktrail.checkpoint_heads (
    user_id  text   NOT NULL,
    number   bigint NOT NULL,
    position bigint NOT NULL,
    hash     bytea  NOT NULL,
    PRIMARY KEY (user_id, number)
);
SELECT tasktrail.protect('tasktrail.checkpoint_heads');
GRANT INSERT ON tasktrail.checkpoint_heads TO tasktrail_operator;

-- And where the records of access end, about each user: again only where they had moved on.
CREATE TABLE tasktrail.checkpoint_access (
    user_id text   NOT NULL,
    number  bigint NOT NULL,
    record  bigint NOT NULL,
    hash    bytea  NOT NULL,
    PRIMARY KEY (user_id, number)
);
SELECT tasktrail.protect('tasktrail.checkpoint_access');
REVOKE SELECT ON tasktrail.checkpoint_access FROM tasktrail_app;
GRANT INSERT ON tasktrail.checkpoint_access TO tasktrail_operator;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tasktrail.checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tasktrail.checkpoint_heads
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tasktrail.checkpoint_access
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.append_only();
