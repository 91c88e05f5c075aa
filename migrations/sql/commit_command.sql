-- One command, one call, one transaction: the only way anything is written to a ledger.
--
-- In: the events with their content hashes, the rows they fold to, and the answer, all made by Python
-- (events.store.commit). Where those depend on positions and the time, which only the holder of the
-- user's lock knows, they are provisional: a position or id below zero counts from the ledger's
-- position before the command (`base`: -1 becomes base + 1), and the time p_not_yet becomes recorded_at.
--
-- Out: `status` is
--   committed             `base`, `recorded_at`, `hash` of the last event; `alike`: for each title of
--                         p_similar_to that has some, the ids of at most 10 open tasks with the same title
--   replayed              the key was used for this very request before: `result`, `alike`, `base` and
--                         `recorded_at` of that time
--   idempotency_conflict  the key was used for another request
--   version_conflict      `conflicts`: the streams that have moved on, with their current versions
--   locked                another session holds the user's lock: try again. Nobody waits for it in here,
--                         because the locks of other users may be held already (events.store.commit_all)
-- In the last four cases nothing was written. Conflicts are returned, not raised: an EXCEPTION block
-- would cost a subtransaction in every call.
CREATE FUNCTION tasktrail.commit_command(
    p_user            text,
    p_idempotency_key text,
    p_request_hash    bytea,
    p_result          jsonb,
    p_not_yet         timestamptz,
    p_command_id      uuid,
    p_actor           jsonb,
    p_expected        jsonb,  -- [{stream_type, stream_id, version}]: existing streams as they were read
    p_events          jsonb,  -- [{stream_type, stream_id, version, type, schema_version, event_id, commitment, body, salt, content_hash}]
    p_tasks           jsonb,
    p_conversations   jsonb,
    p_messages        jsonb,
    p_similar_to      text,   -- titles of new tasks, one a line
    OUT status        text,
    OUT base          bigint,
    OUT recorded_at   timestamptz,
    OUT hash          bytea,
    OUT result        jsonb,
    OUT alike         jsonb,
    OUT conflicts     jsonb
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_user         text;
    v_request_hash bytea;
    v_position     bigint;
    v_stream_id    bigint;
    v_microseconds bigint;
    v_event        record;
    v_first_at     timestamptz;
    v_title        text;
    v_title_key    text;
    v_similar      bigint[];
BEGIN
    v_user := set_config('tasktrail.user_id', p_user, true);  -- an assignment is cheaper than a PERFORM

    -- 1. The user's lock.
    SELECT l.position, l.hash, l.last_recorded_at INTO base, commit_command.hash, commit_command.recorded_at
    FROM tasktrail.ledgers l WHERE l.user_id = p_user FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO tasktrail.ledgers (user_id, position, hash, last_recorded_at)
        VALUES (p_user, 0, sha256('\x7461736b747261696c2f6c65646765722f763100'::bytea || convert_to(p_user, 'UTF8')), 'epoch')
        ON CONFLICT (user_id) DO NOTHING;
        SELECT l.position, l.hash, l.last_recorded_at INTO base, commit_command.hash, commit_command.recorded_at
        FROM tasktrail.ledgers l WHERE l.user_id = p_user FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            status := 'locked';
            RETURN;
        END IF;
    END IF;

    -- 2. Has this key been used?
    IF p_idempotency_key IS NOT NULL THEN
        SELECT i.request_hash, i.result, i.alike, i.position, i.created_at
        INTO v_request_hash, commit_command.result, commit_command.alike, v_position, v_first_at
        FROM tasktrail.idempotency i WHERE i.user_id = p_user AND i.key = p_idempotency_key;
        IF FOUND THEN
            IF v_request_hash = p_request_hash THEN
                status := 'replayed';
                base := v_position;
                recorded_at := v_first_at;
            ELSE
                status := 'idempotency_conflict';
                commit_command.result := NULL;
                commit_command.alike := NULL;
            END IF;
            RETURN;
        END IF;
    END IF;

    -- 3. Have the streams moved on since they were read?
    IF p_expected IS NOT NULL THEN
        SELECT jsonb_agg(jsonb_build_object(
            'stream_type', x.stream_type, 'stream_id', x.stream_id, 'version', coalesce(e.version, 0)))
        INTO conflicts
        FROM jsonb_to_recordset(p_expected) AS x(stream_type text, stream_id bigint, version bigint)
        LEFT JOIN LATERAL (
            SELECT e.version FROM tasktrail.events e
            WHERE e.user_id = p_user AND e.stream_type = x.stream_type AND e.stream_id = x.stream_id
            ORDER BY e.version DESC LIMIT 1
        ) e ON true
        WHERE coalesce(e.version, 0) <> x.version;
        IF conflicts IS NOT NULL THEN
            status := 'version_conflict';
            RETURN;
        END IF;
    END IF;

    -- 4. The events, linked.
    recorded_at := greatest(commit_command.recorded_at, clock_timestamp());
    v_microseconds := (extract(epoch FROM commit_command.recorded_at) * 1000000)::bigint;
    v_position := base;
    IF p_events IS NOT NULL THEN
        FOR v_event IN
            SELECT * FROM jsonb_to_recordset(p_events) AS e(
                stream_type text, stream_id bigint, version bigint, type text, schema_version integer,
                event_id uuid, commitment text, body jsonb, salt text, content_hash text)
        LOOP
            -- That a ledger was erased is erase_ledger's to say: whoever could say it here could keep
            -- it from ever being erased.
            IF v_event.stream_type = 'ledger' OR v_event.type = 'LedgerErased' THEN
                RAISE EXCEPTION 'an erasure is no command' USING ERRCODE = 'insufficient_privilege';
            END IF;
            v_position := v_position + 1;
            v_stream_id := CASE WHEN v_event.stream_id < 0 THEN base - v_event.stream_id ELSE v_event.stream_id END;
            commit_command.hash := sha256(
                commit_command.hash || decode(v_event.content_hash, 'hex') || int8send(v_position)
                || int8send(v_stream_id) || int8send(v_event.version) || int8send(v_microseconds));
            INSERT INTO tasktrail.events (
                user_id, position, stream_type, stream_id, version, type, schema_version, event_id,
                command_id, actor, commitment, body, salt, content_hash, hash, recorded_at)
            VALUES (
                p_user, v_position, v_event.stream_type, v_stream_id, v_event.version, v_event.type,
                v_event.schema_version, v_event.event_id, p_command_id, p_actor,
                decode(v_event.commitment, 'hex'), v_event.body, decode(v_event.salt, 'hex'),
                decode(v_event.content_hash, 'hex'), commit_command.hash, commit_command.recorded_at);
        END LOOP;
    END IF;

    -- 5. Open tasks with the same titles, as they are without the new ones. One title at a time: a
    -- join would be planned anew in every call. The key comes first: with the call in its place in the
    -- statement Postgres may rather walk all open tasks.
    IF p_similar_to IS NOT NULL THEN
        FOREACH v_title IN ARRAY string_to_array(p_similar_to, E'\n') LOOP
            v_title_key := tasktrail.title_key(v_title);
            v_similar := ARRAY(
                SELECT t.id FROM tasktrail.tasks t
                WHERE t.user_id = p_user AND t.status = 0 AND t.title_key = v_title_key
                ORDER BY t.id DESC LIMIT 10);
            IF cardinality(v_similar) > 0 THEN
                alike := coalesce(alike, '{}') || jsonb_build_object(v_title, v_similar);
            END IF;
        END LOOP;
    END IF;

    -- 6. The rows that the events fold to. The user is never taken from a row.
    IF p_tasks IS NOT NULL THEN
        INSERT INTO tasktrail.tasks (
            user_id, id, title, description, priority, due, due_at, tags, completed, deleted,
            created_at, updated_at, completed_at, version, position)
        SELECT
            p_user, CASE WHEN t.id < 0 THEN base - t.id ELSE t.id END, t.title, t.description, t.priority,
            t.due, t.due_at, t.tags, t.completed, t.deleted,
            CASE t.created_at WHEN p_not_yet THEN commit_command.recorded_at ELSE t.created_at END,
            CASE t.updated_at WHEN p_not_yet THEN commit_command.recorded_at ELSE t.updated_at END,
            CASE t.completed_at WHEN p_not_yet THEN commit_command.recorded_at ELSE t.completed_at END,
            t.version, CASE WHEN t.position < 0 THEN base - t.position ELSE t.position END
        FROM jsonb_to_recordset(p_tasks) AS t(
            id bigint, title text, description text, priority text, due text, due_at timestamptz,
            tags text[], completed boolean, deleted boolean, created_at timestamptz,
            updated_at timestamptz, completed_at timestamptz, version bigint, position bigint)
        ON CONFLICT (user_id, id) DO UPDATE SET
            title = EXCLUDED.title, description = EXCLUDED.description, priority = EXCLUDED.priority,
            due = EXCLUDED.due, due_at = EXCLUDED.due_at, tags = EXCLUDED.tags,
            completed = EXCLUDED.completed, deleted = EXCLUDED.deleted,
            created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at,
            completed_at = EXCLUDED.completed_at, version = EXCLUDED.version, position = EXCLUDED.position;
    END IF;
    IF p_conversations IS NOT NULL THEN
        INSERT INTO tasktrail.conversations (
            user_id, id, title, message_count, deleted, created_at, updated_at, version, position)
        SELECT
            p_user, CASE WHEN c.id < 0 THEN base - c.id ELSE c.id END, c.title, c.message_count, c.deleted,
            CASE c.created_at WHEN p_not_yet THEN commit_command.recorded_at ELSE c.created_at END,
            CASE c.updated_at WHEN p_not_yet THEN commit_command.recorded_at ELSE c.updated_at END,
            c.version, CASE WHEN c.position < 0 THEN base - c.position ELSE c.position END
        FROM jsonb_to_recordset(p_conversations) AS c(
            id bigint, title text, message_count bigint, deleted boolean, created_at timestamptz,
            updated_at timestamptz, version bigint, position bigint)
        ON CONFLICT (user_id, id) DO UPDATE SET
            title = EXCLUDED.title, message_count = EXCLUDED.message_count, deleted = EXCLUDED.deleted,
            created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at,
            version = EXCLUDED.version, position = EXCLUDED.position;
    END IF;
    IF p_messages IS NOT NULL THEN
        INSERT INTO tasktrail.messages (
            user_id, id, conversation_id, role, content, metadata, external_id, deleted, created_at,
            edited_at, version, position)
        SELECT
            p_user, CASE WHEN m.id < 0 THEN base - m.id ELSE m.id END,
            CASE WHEN m.conversation_id < 0 THEN base - m.conversation_id ELSE m.conversation_id END,
            m.role, m.content, m.metadata, m.external_id, m.deleted,
            CASE m.created_at WHEN p_not_yet THEN commit_command.recorded_at ELSE m.created_at END,
            CASE m.edited_at WHEN p_not_yet THEN commit_command.recorded_at ELSE m.edited_at END,
            m.version, CASE WHEN m.position < 0 THEN base - m.position ELSE m.position END
        FROM jsonb_to_recordset(p_messages) AS m(
            id bigint, conversation_id bigint, role text, content text, metadata text, external_id text,
            deleted boolean, created_at timestamptz, edited_at timestamptz, version bigint, position bigint)
        ON CONFLICT (user_id, id) DO UPDATE SET
            conversation_id = EXCLUDED.conversation_id, role = EXCLUDED.role, content = EXCLUDED.content,
            metadata = EXCLUDED.metadata, external_id = EXCLUDED.external_id, deleted = EXCLUDED.deleted,
            created_at = EXCLUDED.created_at, edited_at = EXCLUDED.edited_at,
            version = EXCLUDED.version, position = EXCLUDED.position;
    END IF;

    -- 7. The answer to a repetition, and the new head.
    IF p_idempotency_key IS NOT NULL THEN
        INSERT INTO tasktrail.idempotency (user_id, key, request_hash, result, alike, position, created_at)
        VALUES (
            p_user, p_idempotency_key, p_request_hash, p_result, commit_command.alike, base,
            commit_command.recorded_at);
    END IF;
    IF v_position > base THEN
        UPDATE tasktrail.ledgers
        SET position = v_position, hash = commit_command.hash, last_recorded_at = commit_command.recorded_at
        WHERE user_id = p_user;
    END IF;
    status := 'committed';
END
$$;
REVOKE ALL ON FUNCTION tasktrail.commit_command FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.commit_command TO tasktrail_app;
