-- Nobody, the owner included, changes or removes an event, but for one thing: where a later
-- LedgerErased covers an event, its body and salt may be nulled (erase_ledger does that).
CREATE FUNCTION tasktrail.append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'tasktrail.% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
REVOKE ALL ON FUNCTION tasktrail.append_only() FROM PUBLIC;

CREATE FUNCTION tasktrail.append_only_but_erasure() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_erased tasktrail.events := OLD;
BEGIN
    v_erased.body := NULL;
    v_erased.salt := NULL;
    IF OLD.type <> 'LedgerErased' AND NEW IS NOT DISTINCT FROM v_erased AND EXISTS (
        SELECT FROM tasktrail.events e
        WHERE e.user_id = OLD.user_id AND e.stream_type = 'ledger' AND e.type = 'LedgerErased'
        AND e.position > OLD.position AND (e.body #>> '{data,through}')::bigint >= OLD.position
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tasktrail.events is append-only: UPDATE is refused'
        USING ERRCODE = 'insufficient_privilege';
END
$$;
REVOKE ALL ON FUNCTION tasktrail.append_only_but_erasure() FROM PUBLIC;

CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON tasktrail.events
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.append_only();
CREATE TRIGGER append_only_but_erasure BEFORE UPDATE ON tasktrail.events
    FOR EACH ROW EXECUTE FUNCTION tasktrail.append_only_but_erasure();
