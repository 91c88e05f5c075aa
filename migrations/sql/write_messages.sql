-- The messages of accepted commands: as write_tasks.
CREATE FUNCTION tasktrail.write_messages(p_accepted tasktrail.accepted[], p_not_yet timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tasktrail.messages (
        user_id, id, conversation_id, role, content, metadata, external_id, deleted, created_at,
        edited_at, version, position)
    SELECT
        set_config('tasktrail.user_id', a.user_id, true), CASE WHEN m.id < 0 THEN a.base - m.id ELSE m.id END,
        CASE WHEN m.conversation_id < 0 THEN a.base - m.conversation_id ELSE m.conversation_id END,
        m.role, m.content, m.metadata, m.external_id, m.deleted,
        CASE m.created_at WHEN p_not_yet THEN a.recorded_at ELSE m.created_at END,
        CASE m.edited_at WHEN p_not_yet THEN a.recorded_at ELSE m.edited_at END,
        m.version, CASE WHEN m.position < 0 THEN a.base - m.position ELSE m.position END
    FROM unnest(p_accepted) AS a, LATERAL jsonb_to_recordset(a.messages) AS m(
        id bigint, conversation_id bigint, role text, content text, metadata text, external_id text,
        deleted boolean, created_at timestamptz, edited_at timestamptz, version bigint, position bigint)
    ON CONFLICT (user_id, id) DO UPDATE SET
        conversation_id = EXCLUDED.conversation_id, role = EXCLUDED.role, content = EXCLUDED.content,
        metadata = EXCLUDED.metadata, external_id = EXCLUDED.external_id, deleted = EXCLUDED.deleted,
        created_at = EXCLUDED.created_at, edited_at = EXCLUDED.edited_at,
        version = EXCLUDED.version, position = EXCLUDED.position;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.write_messages FROM PUBLIC;
