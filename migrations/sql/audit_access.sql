-- Who looked at whose ledger with Tasktrail's own commands (docs/audit.md). Written by record_access
-- alone; each record is linked to the one before it about the same user.
CREATE TABLE tasktrail.audit_access (
    user_id text        NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 255),
    number  bigint      NOT NULL, -- 1, 2, 3 ... for each user
    login   text        NOT NULL, -- of the database
    details text        NOT NULL CHECK (octet_length(details) <= 16384), -- JSON: what the command says of itself
    at      timestamptz NOT NULL,
    hash    bytea       NOT NULL,
    PRIMARY KEY (user_id, number)
);
SELECT tasktrail.protect('tasktrail.audit_access');
REVOKE SELECT ON tasktrail.audit_access FROM tasktrail_app;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tasktrail.audit_access
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.append_only();
