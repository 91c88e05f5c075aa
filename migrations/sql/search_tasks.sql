-- Full-text search over the tasks of the user that as_user has set for this statement: `p_user` is
-- what as_user returned, so that it is called first. `in_title`: all words of the question are there.
--
-- Why a function: `@@` is not leakproof, so under row-level security the server's role could not use
-- the index for it. This runs as tasktrail_operator, whom the policies let see all, and asks for the
-- same user as they would. The owner is a column of the index, so that it answers for one user alone.
-- Each call is planned with its values: a plan for any user suits none.
GRANT CREATE ON SCHEMA tasktrail TO tasktrail_operator;
SET LOCAL ROLE tasktrail_operator;

CREATE OR REPLACE FUNCTION tasktrail.search_tasks(p_user text, p_query text)
RETURNS TABLE (id bigint, in_title boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET enable_bitmapscan = on AS $$
#variable_conflict use_column
DECLARE
    v_question tsquery := tasktrail.question(p_query);
    v_in_title tsquery := tasktrail.question(p_query, 'A');
BEGIN
    IF p_user = current_setting('tasktrail.user_id', true) THEN
        RETURN QUERY
            SELECT t.id, t.search @@ v_in_title FROM tasktrail.tasks t
            WHERE t.user_id = p_user AND ARRAY[t.user_id] @> ARRAY[p_user] AND t.search @@ v_question;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION tasktrail.search_tasks FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.search_tasks TO tasktrail_app;

SET LOCAL ROLE tasktrail_owner;
REVOKE CREATE ON SCHEMA tasktrail FROM tasktrail_operator;
