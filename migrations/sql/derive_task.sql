-- The columns of a task that only serve queries, from the others.
CREATE OR REPLACE FUNCTION tasktrail.derive_task() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := CASE WHEN NEW.deleted THEN 2 WHEN NEW.completed THEN 1 ELSE 0 END;
    NEW.urgency := CASE NEW.priority WHEN 'high' THEN 3 WHEN 'medium' THEN 2 WHEN 'low' THEN 1 ELSE 0 END;
    NEW.due_order := coalesce(NEW.due_at, 'infinity');
    NEW.title_key := tasktrail.title_key(NEW.title);
    NEW.search := tasktrail.searchable(NEW.title, NEW.tags, NEW.description);
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.derive_task() FROM PUBLIC;

CREATE OR REPLACE TRIGGER derive BEFORE INSERT OR UPDATE ON tasktrail.tasks
    FOR EACH ROW EXECUTE FUNCTION tasktrail.derive_task();
