-- Full-text search over the tasks of the user that as_user has set for this statement: `p_user` is
-- what as_user returned, so that it is called first. `p_query` is a tsquery whose words end in `:*`.
--
-- Why a function: `@@` is not leakproof, so under row-level security the server's role could not use
-- the index for it. This runs as tasktrail_operator, whom the policies let see all, and asks for the
-- same user as they would. The lexeme of the owner makes the index answer for one user alone.
GRANT CREATE ON SCHEMA tasktrail TO tasktrail_operator;
SET LOCAL ROLE tasktrail_operator;

CREATE FUNCTION tasktrail.search_tasks(p_user text, p_query text)
RETURNS TABLE (id bigint, in_title boolean)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20 SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.id, t.search @@ to_tsquery('simple', replace(p_query, ':*', ':*A'))
    FROM tasktrail.tasks t
    WHERE t.user_id = p_user AND p_user = current_setting('tasktrail.user_id', true)
    AND t.search @@ (tasktrail.owner_lexeme(p_user)::tsquery && to_tsquery('simple', p_query))
$$;
REVOKE ALL ON FUNCTION tasktrail.search_tasks(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.search_tasks(text, text) TO tasktrail_app;

SET LOCAL ROLE tasktrail_owner;
REVOKE CREATE ON SCHEMA tasktrail FROM tasktrail_operator;
