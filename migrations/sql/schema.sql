-- Everything of ours is in one schema, owned by a role that nobody logs in as.
DO $$
BEGIN
    IF to_regnamespace('tasktrail') IS NULL THEN -- IF NOT EXISTS asks for the right to make one all the same
        CREATE SCHEMA tasktrail AUTHORIZATION tasktrail_owner;
    END IF;
END
$$;
REVOKE ALL ON SCHEMA tasktrail FROM PUBLIC;
GRANT USAGE ON SCHEMA tasktrail TO tasktrail_app, tasktrail_operator, tasktrail_auditor;
