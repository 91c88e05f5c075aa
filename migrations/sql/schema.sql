-- Everything of ours is in one schema, owned by a role that nobody logs in as.
CREATE SCHEMA IF NOT EXISTS tasktrail AUTHORIZATION tasktrail_owner;
REVOKE ALL ON SCHEMA tasktrail FROM PUBLIC;
GRANT USAGE ON SCHEMA tasktrail TO tasktrail_app, tasktrail_operator, tasktrail_auditor;
