-- The tasks of accepted commands (see commit_commands). The user is never taken from a row, and is
-- named to row-level security row by row, so that each is checked against its own.
CREATE FUNCTION tasktrail.write_tasks(p_accepted tasktrail.accepted[], p_not_yet timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tasktrail.tasks (
        user_id, id, title, description, priority, due, due_at, tags, completed, deleted,
        created_at, updated_at, completed_at, version, position)
    SELECT
        set_config('tasktrail.user_id', a.user_id, true), CASE WHEN t.id < 0 THEN a.base - t.id ELSE t.id END,
        t.title, t.description, t.priority, t.due, t.due_at, t.tags, t.completed, t.deleted,
        CASE t.created_at WHEN p_not_yet THEN a.recorded_at ELSE t.created_at END,
        CASE t.updated_at WHEN p_not_yet THEN a.recorded_at ELSE t.updated_at END,
        CASE t.completed_at WHEN p_not_yet THEN a.recorded_at ELSE t.completed_at END,
        t.version, CASE WHEN t.position < 0 THEN a.base - t.position ELSE t.position END
    FROM unnest(p_accepted) AS a, LATERAL jsonb_to_recordset(a.tasks) AS t(
        id bigint, title text, description text, priority text, due text, due_at timestamptz,
        tags text[], completed boolean, deleted boolean, created_at timestamptz,
        updated_at timestamptz, completed_at timestamptz, version bigint, position bigint)
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = EXCLUDED.title, description = EXCLUDED.description, priority = EXCLUDED.priority,
        due = EXCLUDED.due, due_at = EXCLUDED.due_at, tags = EXCLUDED.tags,
        completed = EXCLUDED.completed, deleted = EXCLUDED.deleted,
        created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at,
        completed_at = EXCLUDED.completed_at, version = EXCLUDED.version, position = EXCLUDED.position;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.write_tasks FROM PUBLIC;
