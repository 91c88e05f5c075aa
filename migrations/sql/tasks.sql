-- The read table of tasks. The columns up to `position` are the folded state (events.task.Task);
-- the generated ones after it only serve queries.
CREATE FUNCTION tasktrail.title_key(p_title text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN lower(btrim(regexp_replace(p_title, '\s+', ' ', 'g')));

-- A word that stands for the owner in the full-text index: letters and digits only.
CREATE FUNCTION tasktrail.owner_lexeme(p_user text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN 'u' || left(encode(sha256(convert_to(p_user, 'UTF8')), 'hex'), 24);

CREATE FUNCTION tasktrail.task_search(p_user text, p_title text, p_description text, p_tags text[])
RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN setweight(to_tsvector('pg_catalog.simple', p_title), 'A')
    || setweight(to_tsvector('pg_catalog.simple', array_to_string(p_tags, ' ')), 'B')
    || setweight(to_tsvector('pg_catalog.simple', coalesce(p_description, '')), 'C')
    || array_to_tsvector(ARRAY[tasktrail.owner_lexeme(p_user)]);

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
    status       smallint    NOT NULL GENERATED ALWAYS AS
                             (CASE WHEN deleted THEN 2 WHEN completed THEN 1 ELSE 0 END) STORED,
    urgency      smallint    NOT NULL GENERATED ALWAYS AS
                             (CASE priority WHEN 'high' THEN 3 WHEN 'medium' THEN 2 WHEN 'low' THEN 1 ELSE 0 END) STORED,
    due_order    timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(due_at, 'infinity')) STORED,
    title_key    text        NOT NULL GENERATED ALWAYS AS (tasktrail.title_key(title)) STORED,
    search       tsvector    NOT NULL GENERATED ALWAYS AS
                             (tasktrail.task_search(user_id, title, description, tags)) STORED,
    PRIMARY KEY (user_id, id)
) WITH (fillfactor = 90);

CREATE INDEX tasks_created ON tasktrail.tasks (user_id, status, id);
CREATE INDEX tasks_updated ON tasktrail.tasks (user_id, status, position);
CREATE INDEX tasks_due ON tasktrail.tasks (user_id, status, due_order, id);
CREATE INDEX tasks_urgency ON tasktrail.tasks (user_id, status, urgency, id);
CREATE INDEX tasks_similar ON tasktrail.tasks (user_id, title_key, id) WHERE status = 0;
CREATE INDEX tasks_search ON tasktrail.tasks USING gin (search);
SELECT tasktrail.protect('tasktrail.tasks');
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON tasktrail.tasks TO tasktrail_operator;
