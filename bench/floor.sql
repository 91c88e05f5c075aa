-- What pgbench calls: the least that any design must do for one durable, ordered change. It locks a
-- head row, inserts a row as wide as ours with the same two unique indexes, and upserts a task's row.
-- It has no row-level security, hash, idempotency, version check, search or query index.
CREATE SCHEMA floor;
CREATE TABLE floor.heads (
    user_id text PRIMARY KEY, position bigint NOT NULL, hash bytea NOT NULL, at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE floor.events (
    user_id text, position bigint, stream_type text NOT NULL, stream_id bigint NOT NULL,
    version bigint NOT NULL, type text NOT NULL, schema_version integer NOT NULL,
    event_id uuid NOT NULL, command_id uuid NOT NULL, actor jsonb NOT NULL, commitment bytea NOT NULL,
    body jsonb, salt bytea, content_hash bytea NOT NULL, hash bytea NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, position), UNIQUE (user_id, stream_type, stream_id, version)
);
CREATE TABLE floor.tasks (
    user_id text, id bigint, title text NOT NULL, description text, priority text, due text,
    due_at timestamptz, tags text[] NOT NULL, completed boolean NOT NULL, deleted boolean NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, completed_at timestamptz,
    version bigint NOT NULL, position bigint NOT NULL, PRIMARY KEY (user_id, id)
);

CREATE FUNCTION floor.append(
    p_user text, p_event_id uuid, p_command_id uuid, p_actor jsonb, p_body jsonb, p_salt bytea, p_hash bytea,
    p_title text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_position bigint;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT position + 1 INTO v_position FROM floor.heads WHERE user_id = p_user FOR UPDATE;
    INSERT INTO floor.events VALUES (
        p_user, v_position, 'task', v_position, 1, 'TaskCreated', 1, p_event_id, p_command_id, p_actor,
        p_hash, p_body, p_salt, p_hash, p_hash, v_now);
    INSERT INTO floor.tasks VALUES (
        p_user, v_position, p_title, NULL, 'high', '2026-12-01', '2026-12-01Z', ARRAY['home'], false, false,
        v_now, v_now, NULL, 1, v_position)
    ON CONFLICT (user_id, id) DO UPDATE SET title = EXCLUDED.title, position = EXCLUDED.position;
    UPDATE floor.heads SET position = v_position, hash = p_hash, at = v_now WHERE user_id = p_user;
    RETURN v_position;
END
$$;
