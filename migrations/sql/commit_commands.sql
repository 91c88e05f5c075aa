-- Commands of different users in one call and one transaction: the only way anything is written to a
-- ledger. They are looked at one by one, and each has its own outcome; but what can be is done for all
-- by one statement, because a statement costs more than a row: the locks, similar titles, and at the
-- end the rows of all, a statement for each table.
--
-- In: an array of commands with the events and their content hashes, the rows they fold to, and the
-- answer, all made by Python (events.store.seal). Where those depend on positions and the time, which
-- only the holder of the user's lock knows, they are provisional: a position or id below zero counts
-- from the ledger's position before the command (`base`: -1 becomes base + 1), and the time p_not_yet
-- becomes recorded_at.
--
-- Out, for each `user_id`: `status` is
--   committed             `base`, `recorded_at`, `hash` of the last event; `alike`: for each title of
--                         similar_to that has some, the ids of at most 10 open tasks with the same title
--   replayed              the key was used for this very request before: `result`, `alike`, `base` and
--                         `recorded_at` of that time
--   idempotency_conflict  the key was used for another request
--   version_conflict      `conflicts`: the streams that have moved on, with their current versions
--   locked                another session holds the user's lock: try again. Nobody waits for it in here,
--                         because the locks of other users may be held already
-- In the last four cases nothing of the command was written. Conflicts are returned, not raised: an
-- EXCEPTION block would cost a subtransaction for each command.
--
-- Row-level security binds the owner of this function too: `set_config` says whose rows may be seen
-- and written, at first for each command, and then for each row.
CREATE FUNCTION tasktrail.commit_commands(p_commands jsonb, p_not_yet timestamptz)
RETURNS TABLE (
    user_id text, status text, base bigint, recorded_at timestamptz, hash bytea, result jsonb, alike jsonb,
    conflicts jsonb
)
-- How many rows an array has makes no difference to a plan, but Postgres would plan for it each time.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_command       record;
    v_user          text;
    v_event         tasktrail.sealed;
    v_first         tasktrail.idempotency;
    v_head          bigint;
    v_stream_id     bigint;
    v_microseconds  bigint;
    v_events        tasktrail.events[] := '{}';
    v_accepted      tasktrail.accepted[] := '{}';
    v_keys          boolean := false;  -- whether a command that was accepted has one
    v_tasks         boolean := false;
    v_conversations boolean := false;
    v_messages      boolean := false;
    v_similar_to    boolean := false;
BEGIN
    -- 1. The users' locks. (Rows are read ahead of the loop: within it the user has to be set again.)
    FOR v_command IN
        SELECT
            c.*, l.position, l.hash, l.last_recorded_at,
            ARRAY(SELECT jsonb_populate_recordset(NULL::tasktrail.sealed, c.events)) AS sealed
        FROM jsonb_to_recordset(p_commands) AS c(
                user_id text, key text, request_hash bytea, result jsonb, command_id uuid, actor jsonb,
                expected jsonb,    -- [{stream_type, stream_id, version}]: existing streams as they were read
                events jsonb,      -- [{stream_type, stream_id, version, type, ...}]
                tasks jsonb, conversations jsonb, messages jsonb,
                similar_to text),  -- titles of new tasks, one a line
            LATERAL (SELECT set_config('tasktrail.user_id', c.user_id, true) AS user_id) AS u
            LEFT JOIN LATERAL (
                SELECT l.position, l.hash, l.last_recorded_at FROM tasktrail.ledgers l
                WHERE l.user_id = u.user_id FOR UPDATE SKIP LOCKED
            ) AS l ON true
    LOOP
        v_user := set_config('tasktrail.user_id', v_command.user_id, true);
        user_id := v_user;
        base := v_command.position;
        hash := v_command.hash;
        recorded_at := v_command.last_recorded_at;
        IF base IS NULL THEN
            -- Whoever inserts the same row waits for the one who does it now: only one tries.
            IF NOT pg_try_advisory_xact_lock(hashtextextended(v_user, 7461736277)) THEN
                status := 'locked';
                RETURN NEXT;
                CONTINUE;
            END IF;
            INSERT INTO tasktrail.ledgers (user_id, position, hash, last_recorded_at)
            VALUES (v_user, 0, sha256(decode('7461736b747261696c2f6c65646765722f763100', 'hex') || convert_to(v_user, 'UTF8')), 'epoch')
            ON CONFLICT (user_id) DO NOTHING;
            SELECT l.position, l.hash, l.last_recorded_at INTO base, hash, recorded_at
            FROM tasktrail.ledgers l WHERE l.user_id = v_user FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN
                status := 'locked';
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        -- 2. Has this key been used?
        IF v_command.key IS NOT NULL THEN
            SELECT i.* INTO v_first
            FROM tasktrail.idempotency i WHERE i.user_id = v_user AND i.key = v_command.key;
            IF FOUND THEN
                status := 'idempotency_conflict';
                IF v_first.request_hash = v_command.request_hash THEN
                    status := 'replayed';
                    base := v_first.position;
                    recorded_at := v_first.created_at;
                    result := v_first.result;
                    alike := v_first.alike;
                END IF;
                RETURN NEXT;
                result := NULL;
                alike := NULL;
                CONTINUE;
            END IF;
        END IF;

        -- 3. Have the streams moved on since they were read?
        IF v_command.expected IS NOT NULL THEN
            SELECT jsonb_agg(jsonb_build_object(
                'stream_type', x.stream_type, 'stream_id', x.stream_id, 'version', coalesce(e.version, 0)))
            INTO conflicts
            FROM jsonb_to_recordset(v_command.expected) AS x(stream_type text, stream_id bigint, version bigint)
            LEFT JOIN LATERAL (
                SELECT e.version FROM tasktrail.events e
                WHERE e.user_id = v_user AND e.stream_type = x.stream_type AND e.stream_id = x.stream_id
                ORDER BY e.version DESC LIMIT 1
            ) e ON true
            WHERE coalesce(e.version, 0) <> x.version;
            IF conflicts IS NOT NULL THEN
                status := 'version_conflict';
                RETURN NEXT;
                conflicts := NULL;
                CONTINUE;
            END IF;
        END IF;

        -- 4. The events, linked.
        recorded_at := greatest(recorded_at, clock_timestamp());
        IF recorded_at >= '9999-12-31' THEN  -- doctored: no answer could tell such a time
            RAISE EXCEPTION 'the ledger of % is of another age', v_user USING ERRCODE = 'datetime_field_overflow';
        END IF;
        v_microseconds := (extract(epoch FROM recorded_at) * 1000000)::bigint;
        v_head := base;
        FOREACH v_event IN ARRAY v_command.sealed LOOP
            -- That a ledger was erased is erase_ledger's to say: whoever could say it here could
            -- keep it from ever being erased.
            IF v_event.stream_type = 'ledger' OR v_event.type = 'LedgerErased' THEN
                RAISE EXCEPTION 'an erasure is no command' USING ERRCODE = 'insufficient_privilege';
            END IF;
            v_head := v_head + 1;
            v_stream_id := CASE WHEN v_event.stream_id < 0 THEN base - v_event.stream_id ELSE v_event.stream_id END;
            hash := sha256(
                hash || decode(v_event.content_hash, 'hex') || int8send(v_head)
                || int8send(v_stream_id) || int8send(v_event.version) || int8send(v_microseconds));
            v_events := v_events || ROW(  -- in the order of the table's columns
                v_user, v_head, v_event.stream_type, v_stream_id, v_event.version, v_event.type,
                v_event.schema_version, v_event.event_id, v_command.command_id, v_command.actor,
                decode(v_event.commitment, 'hex'), v_event.body, decode(v_event.salt, 'hex'),
                decode(v_event.content_hash, 'hex'), hash, recorded_at)::tasktrail.events;
        END LOOP;

        v_accepted := v_accepted || ROW(  -- in the order of the type's fields
            v_user, base, recorded_at, v_head, hash, v_command.key, v_command.request_hash,
            v_command.result, v_command.tasks, v_command.conversations, v_command.messages,
            v_command.similar_to, NULL)::tasktrail.accepted;
        v_keys := v_keys OR v_command.key IS NOT NULL;
        v_tasks := v_tasks OR v_command.tasks IS NOT NULL;
        v_conversations := v_conversations OR v_command.conversations IS NOT NULL;
        v_messages := v_messages OR v_command.messages IS NOT NULL;
        v_similar_to := v_similar_to OR v_command.similar_to IS NOT NULL;
    END LOOP;

    -- 5. Open tasks with the same titles, as they are without the new ones. The keys come first (OFFSET
    -- keeps them there): with the call in its place Postgres may rather walk all open tasks.
    IF v_similar_to THEN
        v_accepted := ARRAY(
            SELECT ROW(
                a.user_id, a.base, a.recorded_at, a.head, a.hash, a.key, a.request_hash, a.result,
                a.tasks, a.conversations, a.messages, NULL, s.alike)::tasktrail.accepted
            FROM unnest(v_accepted) AS a, LATERAL (
                SELECT jsonb_object_agg(x.title, x.ids) AS alike
                FROM (
                    SELECT u.title, ARRAY(
                        SELECT t.id FROM tasktrail.tasks t
                        WHERE t.user_id = u.user_id AND t.status = 0 AND t.title_key = u.title_key
                        ORDER BY t.id DESC LIMIT 10) AS ids
                    FROM (
                        SELECT set_config('tasktrail.user_id', a.user_id, true) AS user_id,
                            w.title, tasktrail.title_key(w.title) AS title_key
                        FROM unnest(string_to_array(a.similar_to, E'\n')) AS w(title) OFFSET 0
                    ) AS u
                ) AS x
                WHERE x.ids <> '{}'
            ) AS s);
    END IF;

    -- 6. The rows of all: events, what they fold to, the answers to repetitions, and the new heads.
    IF cardinality(v_events) > 0 THEN
        INSERT INTO tasktrail.events (
            user_id, position, stream_type, stream_id, version, type, schema_version, event_id,
            command_id, actor, commitment, body, salt, content_hash, hash, recorded_at)
        SELECT
            set_config('tasktrail.user_id', e.user_id, true), e.position, e.stream_type, e.stream_id, e.version,
            e.type, e.schema_version, e.event_id, e.command_id, e.actor, e.commitment, e.body, e.salt,
            e.content_hash, e.hash, e.recorded_at
        FROM unnest(v_events) AS e;
    END IF;
    IF v_tasks THEN
        PERFORM tasktrail.write_tasks(v_accepted, p_not_yet);
    END IF;
    IF v_conversations THEN
        PERFORM tasktrail.write_conversations(v_accepted, p_not_yet);
    END IF;
    IF v_messages THEN
        PERFORM tasktrail.write_messages(v_accepted, p_not_yet);
    END IF;
    IF v_keys THEN
        INSERT INTO tasktrail.idempotency (user_id, key, request_hash, result, alike, position, created_at)
        SELECT
            set_config('tasktrail.user_id', a.user_id, true), a.key, a.request_hash, a.result, a.alike,
            a.base, a.recorded_at
        FROM unnest(v_accepted) AS a WHERE a.key IS NOT NULL;
    END IF;
    IF cardinality(v_events) > 0 THEN
        -- The rows are there: they were locked. (An UPDATE with a join might look for them in another
        -- order than it names their users in.)
        INSERT INTO tasktrail.ledgers (user_id, position, hash, last_recorded_at)
        SELECT set_config('tasktrail.user_id', a.user_id, true), a.head, a.hash, a.recorded_at
        FROM unnest(v_accepted) AS a WHERE a.head > a.base
        ON CONFLICT (user_id) DO UPDATE SET
            position = EXCLUDED.position, hash = EXCLUDED.hash, last_recorded_at = EXCLUDED.last_recorded_at;
    END IF;
    RETURN QUERY
        SELECT a.user_id, 'committed', a.base, a.recorded_at, a.hash, NULL::jsonb, a.alike, NULL::jsonb
        FROM unnest(v_accepted) AS a;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.commit_commands FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.commit_commands TO tasktrail_app;
