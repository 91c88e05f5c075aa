-- Users whose words must not be erased for now, such as while a court may ask for them.
CREATE TABLE tasktrail.holds (
    user_id text        NOT NULL PRIMARY KEY,
    reason  text        NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
SELECT tasktrail.protect('tasktrail.holds');
GRANT INSERT, DELETE ON tasktrail.holds TO tasktrail_operator;
