-- The read table of messages: the folded state (events.conversation.Message). `metadata` is the JSON
-- text that the event holds: jsonb would rewrite its numbers.
CREATE TABLE tasktrail.messages (
    user_id         text        NOT NULL,
    id              bigint      NOT NULL,
    conversation_id bigint      NOT NULL,
    role            text        NOT NULL,
    content         text        NOT NULL,
    metadata        text,
    external_id     text,
    deleted         boolean     NOT NULL,
    created_at      timestamptz NOT NULL,
    edited_at       timestamptz,
    version         bigint      NOT NULL,
    position        bigint      NOT NULL,
    PRIMARY KEY (user_id, id)
);
CREATE INDEX messages_conversation ON tasktrail.messages (user_id, conversation_id, id);
CREATE INDEX messages_external ON tasktrail.messages (user_id, conversation_id, external_id)
    WHERE external_id IS NOT NULL;
SELECT tasktrail.protect('tasktrail.messages');
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON tasktrail.messages TO tasktrail_operator;
