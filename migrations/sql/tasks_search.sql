-- For search_tasks: a user's tasks by their words.
DROP INDEX IF EXISTS tasktrail.tasks_search;
CREATE INDEX tasks_search ON tasktrail.tasks USING gin ((ARRAY[user_id]), search);
