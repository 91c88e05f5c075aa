-- Every read begins with this in its FROM: `FROM tasktrail.as_user($1) AS u, LATERAL (...)`.
-- It sets the user for row-level security, for this one statement.
CREATE FUNCTION tasktrail.as_user(p_user text) RETURNS text
LANGUAGE sql VOLATILE
AS $$ SELECT pg_catalog.set_config('tasktrail.user_id', p_user, true) $$;
REVOKE ALL ON FUNCTION tasktrail.as_user(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.as_user(text) TO tasktrail_app, tasktrail_operator, tasktrail_auditor;
