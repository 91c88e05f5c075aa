-- The read table of tasks. The columns up to `position` are the folded state (events.task.Task);
-- those after it only serve queries, and a trigger (derive_task) derives them from the others, whoever
-- writes.
-- (Generated columns would do the same, but Postgres parses and plans their expressions anew in each
-- statement: half of what an INSERT costs here.)

-- What two titles have in common when they are the same but for case and runs of spaces.
CREATE FUNCTION tasktrail.title_key(p_title text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(CASE WHEN strpos(p_title, '  ') = 0 THEN p_title ELSE regexp_replace(p_title, ' +', ' ', 'g') END);

REVOKE ALL ON FUNCTION tasktrail.title_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.title_key(text) TO tasktrail_operator; -- in the trigger, when it writes a task

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

CREATE INDEX tasks_created ON tasktrail.tasks (user_id, status, id);
CREATE INDEX tasks_updated ON tasktrail.tasks (user_id, status, position);
CREATE INDEX tasks_due ON tasktrail.tasks (user_id, status, due_order, id);
CREATE INDEX tasks_urgency ON tasktrail.tasks (user_id, status, urgency, id);
CREATE INDEX tasks_similar ON tasktrail.tasks (user_id, title_key, id) WHERE status = 0;
SELECT tasktrail.protect('tasktrail.tasks');
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON tasktrail.tasks TO tasktrail_operator;
