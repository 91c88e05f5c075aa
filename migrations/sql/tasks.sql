-- The read table of tasks. The columns up to `position` are the folded state (events.task.Task);
-- those after it only serve queries, and a trigger derives them from the others, whoever writes.
-- (Generated columns would do the same, but Postgres parses and plans their expressions anew in each
-- statement: half of what an INSERT costs here.)

-- What two titles have in common when they are the same but for case and runs of spaces.
CREATE FUNCTION tasktrail.title_key(p_title text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(CASE WHEN strpos(p_title, '  ') = 0 THEN p_title ELSE regexp_replace(p_title, ' +', ' ', 'g') END);

-- What stands for the owner in the full-text index: no word begins like it (see words.sql).
CREATE FUNCTION tasktrail.owner_lexeme(p_user text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN '@' || left(encode(sha256(convert_to(p_user, 'UTF8')), 'hex'), 24);

-- Whoever writes a task calls these in its trigger: the owner in commit_commands, the operator itself.
REVOKE ALL ON FUNCTION tasktrail.title_key(text), tasktrail.owner_lexeme(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.title_key(text), tasktrail.owner_lexeme(text) TO tasktrail_operator;
GRANT EXECUTE ON FUNCTION tasktrail.owner_lexeme(text) TO tasktrail_auditor; -- verify --words

CREATE TABLE tasktrail.tasks (
    user_id      text        NOT NULL,
    id           bigint      NOT NULL,
    title        text        NOT NULL,
    description  text,
    priority     text,
    due          text,
    due_at       timestamptz,
    tags         text[]      NOT NULL,
    completed    boolean     NOT NULL,
    deleted      boolean     NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    completed_at timestamptz,
    version      bigint      NOT NULL,
    position     bigint      NOT NULL,
    status       smallint    NOT NULL,  -- 0 open, 1 completed, 2 deleted
    urgency      smallint    NOT NULL,  -- 3 high, 2 medium, 1 low, 0 none
    due_order    timestamptz NOT NULL,  -- infinity: none
    title_key    text        NOT NULL,
    search       tsvector    NOT NULL,
    PRIMARY KEY (user_id, id)
) WITH (fillfactor = 90);

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

CREATE INDEX tasks_created ON tasktrail.tasks (user_id, status, id);
CREATE INDEX tasks_updated ON tasktrail.tasks (user_id, status, position);
CREATE INDEX tasks_due ON tasktrail.tasks (user_id, status, due_order, id);
CREATE INDEX tasks_urgency ON tasktrail.tasks (user_id, status, urgency, id);
CREATE INDEX tasks_similar ON tasktrail.tasks (user_id, title_key, id) WHERE status = 0;
CREATE INDEX tasks_search ON tasktrail.tasks USING gin (search);
SELECT tasktrail.protect('tasktrail.tasks');
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON tasktrail.tasks TO tasktrail_operator;
