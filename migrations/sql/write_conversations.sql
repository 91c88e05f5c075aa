-- The conversations of accepted commands: as write_tasks.
CREATE FUNCTION tasktrail.write_conversations(p_accepted tasktrail.accepted[], p_not_yet timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tasktrail.conversations (
        user_id, id, title, message_count, deleted, created_at, updated_at, version, position)
    SELECT
        set_config('tasktrail.user_id', a.user_id, true), CASE WHEN c.id < 0 THEN a.base - c.id ELSE c.id END,
        c.title, c.message_count, c.deleted,
        CASE c.created_at WHEN p_not_yet THEN a.recorded_at ELSE c.created_at END,
        CASE c.updated_at WHEN p_not_yet THEN a.recorded_at ELSE c.updated_at END,
        c.version, CASE WHEN c.position < 0 THEN a.base - c.position ELSE c.position END
    FROM unnest(p_accepted) AS a, LATERAL jsonb_to_recordset(a.conversations) AS c(
        id bigint, title text, message_count bigint, deleted boolean, created_at timestamptz,
        updated_at timestamptz, version bigint, position bigint)
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = EXCLUDED.title, message_count = EXCLUDED.message_count, deleted = EXCLUDED.deleted,
        created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at,
        version = EXCLUDED.version, position = EXCLUDED.position;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.write_conversations FROM PUBLIC;
