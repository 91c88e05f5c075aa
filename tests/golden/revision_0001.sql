-- What revision 0001 had in place of revision 0002, as it was: run as tasktrail_owner in a database at
-- revision 0001, it makes one as the version before had it. Never edited.
CREATE FUNCTION tasktrail.owner_lexeme(p_user text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN '@' || left(encode(sha256(convert_to(p_user, 'UTF8')), 'hex'), 24);

-- Whoever writes a task calls these in its trigger: the owner in commit_commands, the operator itself.
REVOKE ALL ON FUNCTION tasktrail.owner_lexeme(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.owner_lexeme(text) TO tasktrail_operator;
GRANT EXECUTE ON FUNCTION tasktrail.owner_lexeme(text) TO tasktrail_auditor; -- verify --words

CREATE FUNCTION tasktrail.searchable(p_title text, p_tags text[], p_description text) RETURNS tsvector
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    v_found tsvector := setweight(to_tsvector('pg_catalog.simple', tasktrail.words(p_title, true)), 'A');
BEGIN
    IF p_tags <> '{}' THEN
        v_found := v_found || setweight(
            to_tsvector('pg_catalog.simple', tasktrail.words(array_to_string(p_tags, ' '), true)), 'B');
    END IF;
    IF p_description IS NOT NULL THEN
        v_found := v_found || setweight(
            to_tsvector('pg_catalog.simple', tasktrail.words(p_description, true)), 'C');
    END IF;
    RETURN v_found;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.searchable FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.searchable TO tasktrail_operator, tasktrail_auditor;

CREATE FUNCTION tasktrail.derive_task() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := CASE WHEN NEW.deleted THEN 2 WHEN NEW.completed THEN 1 ELSE 0 END;
    NEW.urgency := CASE NEW.priority WHEN 'high' THEN 3 WHEN 'medium' THEN 2 WHEN 'low' THEN 1 ELSE 0 END;
    NEW.due_order := coalesce(NEW.due_at, 'infinity');
    NEW.title_key := tasktrail.title_key(NEW.title);
    NEW.search := tasktrail.searchable(NEW.title, NEW.tags, NEW.description)
        || array_to_tsvector(ARRAY[tasktrail.owner_lexeme(NEW.user_id)]);
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.derive_task() FROM PUBLIC;

CREATE TRIGGER derive BEFORE INSERT OR UPDATE ON tasktrail.tasks
    FOR EACH ROW EXECUTE FUNCTION tasktrail.derive_task();
CREATE INDEX tasks_search ON tasktrail.tasks USING gin (search);

-- Full-text search over the tasks of the user that as_user has set for this statement: `p_user` is
-- what as_user returned, so that it is called first. `in_title`: all words of the question are there.
--
-- Why a function: `@@` is not leakproof, so under row-level security the server's role could not use
-- the index for it. This runs as tasktrail_operator, whom the policies let see all, and asks for the
-- same user as they would. The lexeme of the owner makes the index answer for one user alone.
-- Each call is planned with its values: a plan for any user suits none.
GRANT CREATE ON SCHEMA tasktrail TO tasktrail_operator;
SET LOCAL ROLE tasktrail_operator;

CREATE FUNCTION tasktrail.search_tasks(p_user text, p_query text)
RETURNS TABLE (id bigint, in_title boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET enable_bitmapscan = on AS $$
#variable_conflict use_column
DECLARE
    v_question tsquery := tasktrail.question(p_query) && quote_literal(tasktrail.owner_lexeme(p_user))::tsquery;
    v_in_title tsquery := tasktrail.question(p_query, 'A');
BEGIN
    IF p_user = current_setting('tasktrail.user_id', true) THEN
        RETURN QUERY
            SELECT t.id, t.search @@ v_in_title FROM tasktrail.tasks t
            WHERE t.user_id = p_user AND t.search @@ v_question;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION tasktrail.search_tasks FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.search_tasks TO tasktrail_app;

SET LOCAL ROLE tasktrail_owner;
REVOKE CREATE ON SCHEMA tasktrail FROM tasktrail_operator;

-- A command that commit_commands has accepted, with the rows that its events fold to, and the head
-- that the ledger gets. See there for what `base` and the rows' negative numbers mean.
CREATE TYPE tasktrail.accepted AS (
    user_id       text,
    base          bigint,
    recorded_at   timestamptz,
    head          bigint,
    hash          bytea,
    tasks         jsonb,
    conversations jsonb,
    messages      jsonb
);

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

-- Commands of different users in one call and one transaction: the only way anything is written to a
-- ledger. They are looked at one by one, and each has its own outcome; then the rows of all are
-- written, a statement for each table, because a statement costs more than a row.
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
    v_event         record;
    v_user          text;
    v_request_hash  bytea;
    v_position      bigint;
    v_stream_id     bigint;
    v_microseconds  bigint;
    v_first_at      timestamptz;
    v_title         text;
    v_title_key     text;
    v_similar       bigint[];
    v_accepted      tasktrail.accepted[] := '{}';
    v_events        tasktrail.events[] := '{}';
    v_answers       tasktrail.idempotency[] := '{}';
    v_tasks         boolean := false;  -- whether a command has some
    v_conversations boolean := false;
    v_messages      boolean := false;
BEGIN
    FOR v_command IN
        SELECT c.* FROM jsonb_to_recordset(p_commands) AS c(
            user_id text, key text, request_hash bytea, result jsonb, command_id uuid, actor jsonb,
            expected jsonb,    -- [{stream_type, stream_id, version}]: existing streams as they were read
            events jsonb,      -- [{stream_type, stream_id, version, type, ...}]
            tasks jsonb, conversations jsonb, messages jsonb,
            similar_to text)   -- titles of new tasks, one a line
    LOOP
        v_user := set_config('tasktrail.user_id', v_command.user_id, true);
        user_id := v_user;
        result := NULL;
        alike := NULL;
        conflicts := NULL;

        -- 1. The user's lock.
        SELECT l.position, l.hash, l.last_recorded_at INTO base, hash, recorded_at
        FROM tasktrail.ledgers l WHERE l.user_id = v_user FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            INSERT INTO tasktrail.ledgers (user_id, position, hash, last_recorded_at)
            VALUES (v_user, 0, sha256('\x7461736b747261696c2f6c65646765722f763100'::bytea || convert_to(v_user, 'UTF8')), 'epoch')
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
            SELECT i.request_hash, i.result, i.alike, i.position, i.created_at
            INTO v_request_hash, result, alike, v_position, v_first_at
            FROM tasktrail.idempotency i WHERE i.user_id = v_user AND i.key = v_command.key;
            IF FOUND THEN
                IF v_request_hash = v_command.request_hash THEN
                    status := 'replayed';
                    base := v_position;
                    recorded_at := v_first_at;
                ELSE
                    status := 'idempotency_conflict';
                    result := NULL;
                    alike := NULL;
                END IF;
                RETURN NEXT;
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
                CONTINUE;
            END IF;
        END IF;

        -- 4. The events, linked.
        recorded_at := greatest(recorded_at, clock_timestamp());
        v_microseconds := (extract(epoch FROM recorded_at) * 1000000)::bigint;
        v_position := base;
        IF v_command.events IS NOT NULL THEN
            FOR v_event IN
                SELECT e.* FROM jsonb_to_recordset(v_command.events) AS e(
                    stream_type text, stream_id bigint, version bigint, type text, schema_version integer,
                    event_id uuid, commitment text, body jsonb, salt text, content_hash text)
            LOOP
                -- That a ledger was erased is erase_ledger's to say: whoever could say it here could
                -- keep it from ever being erased.
                IF v_event.stream_type = 'ledger' OR v_event.type = 'LedgerErased' THEN
                    RAISE EXCEPTION 'an erasure is no command' USING ERRCODE = 'insufficient_privilege';
                END IF;
                v_position := v_position + 1;
                v_stream_id := CASE WHEN v_event.stream_id < 0 THEN base - v_event.stream_id ELSE v_event.stream_id END;
                hash := sha256(
                    hash || decode(v_event.content_hash, 'hex') || int8send(v_position)
                    || int8send(v_stream_id) || int8send(v_event.version) || int8send(v_microseconds));
                v_events := v_events || ROW(  -- in the order of the table's columns
                    v_user, v_position, v_event.stream_type, v_stream_id, v_event.version, v_event.type,
                    v_event.schema_version, v_event.event_id, v_command.command_id, v_command.actor,
                    decode(v_event.commitment, 'hex'), v_event.body, decode(v_event.salt, 'hex'),
                    decode(v_event.content_hash, 'hex'), hash, recorded_at)::tasktrail.events;
            END LOOP;
        END IF;

        -- 5. Open tasks with the same titles, as they are without the new ones. The key comes first: with
        -- the call in its place in the statement Postgres may rather walk all open tasks.
        IF v_command.similar_to IS NOT NULL THEN
            FOREACH v_title IN ARRAY string_to_array(v_command.similar_to, E'\n') LOOP
                v_title_key := tasktrail.title_key(v_title);
                v_similar := ARRAY(
                    SELECT t.id FROM tasktrail.tasks t
                    WHERE t.user_id = v_user AND t.status = 0 AND t.title_key = v_title_key
                    ORDER BY t.id DESC LIMIT 10);
                IF cardinality(v_similar) > 0 THEN
                    alike := coalesce(alike, '{}') || jsonb_build_object(v_title, v_similar);
                END IF;
            END LOOP;
        END IF;

        v_accepted := v_accepted || ROW(
            v_user, base, recorded_at, v_position, hash,
            v_command.tasks, v_command.conversations, v_command.messages)::tasktrail.accepted;
        v_tasks := v_tasks OR v_command.tasks IS NOT NULL;
        v_conversations := v_conversations OR v_command.conversations IS NOT NULL;
        v_messages := v_messages OR v_command.messages IS NOT NULL;
        IF v_command.key IS NOT NULL THEN
            v_answers := v_answers || ROW(  -- in the order of the table's columns
                v_user, v_command.key, v_command.request_hash, v_command.result, alike, base,
                recorded_at)::tasktrail.idempotency;
        END IF;
        status := 'committed';
        RETURN NEXT;
    END LOOP;

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
    IF cardinality(v_answers) > 0 THEN
        INSERT INTO tasktrail.idempotency (user_id, key, request_hash, result, alike, position, created_at)
        SELECT
            set_config('tasktrail.user_id', i.user_id, true), i.key, i.request_hash, i.result, i.alike,
            i.position, i.created_at
        FROM unnest(v_answers) AS i;
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
END
$$;
REVOKE ALL ON FUNCTION tasktrail.commit_commands FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.commit_commands TO tasktrail_app;
