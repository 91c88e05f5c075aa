-- The read table of conversations: the folded state (events.conversation.Conversation).
CREATE TABLE tasktrail.conversations (
    user_id       text        NOT NULL,
    id            bigint      NOT NULL,
    title         text,
    message_count bigint      NOT NULL,
    deleted       boolean     NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    version       bigint      NOT NULL,
    position      bigint      NOT NULL,
    PRIMARY KEY (user_id, id)
);
CREATE INDEX conversations_activity ON tasktrail.conversations (user_id, deleted, position);
SELECT tasktrail.protect('tasktrail.conversations');
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON tasktrail.conversations TO tasktrail_operator;
