-- The planner's statistics keep samples of values: words that an erasure would not reach, and that
-- other roles may see. No query of ours is planned by what people wrote, so none are kept of it.
ALTER TABLE tasktrail.events ALTER COLUMN body SET STATISTICS 0, ALTER COLUMN salt SET STATISTICS 0;
ALTER TABLE tasktrail.tasks
    ALTER COLUMN title SET STATISTICS 0,
    ALTER COLUMN description SET STATISTICS 0,
    ALTER COLUMN tags SET STATISTICS 0,
    ALTER COLUMN title_key SET STATISTICS 0,
    ALTER COLUMN search SET STATISTICS 0;
ALTER TABLE tasktrail.conversations ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE tasktrail.messages
    ALTER COLUMN content SET STATISTICS 0,
    ALTER COLUMN metadata SET STATISTICS 0,
    ALTER COLUMN external_id SET STATISTICS 0;
ALTER TABLE tasktrail.idempotency
    ALTER COLUMN key SET STATISTICS 0,
    ALTER COLUMN result SET STATISTICS 0,
    ALTER COLUMN alike SET STATISTICS 0;
