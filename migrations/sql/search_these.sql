-- The search of search_tasks in tasks that are no rows, as they were at some moment: [{id, title, tags,
-- description}]. It reads no table.
CREATE FUNCTION tasktrail.search_these(p_tasks jsonb, p_query text)
RETURNS TABLE (id bigint, in_title boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_question tsquery := tasktrail.question(p_query);
    v_in_title tsquery := tasktrail.question(p_query, 'A');
BEGIN
    RETURN QUERY
        SELECT s.id, s.search @@ v_in_title
        FROM (
            SELECT t.id, tasktrail.searchable(t.title, t.tags, t.description) AS search
            FROM jsonb_to_recordset(p_tasks) AS t(id bigint, title text, tags text[], description text)
            OFFSET 0
        ) AS s
        WHERE s.search @@ v_question;
END
$$;

REVOKE ALL ON FUNCTION tasktrail.search_these FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.search_these TO tasktrail_app;
