-- Nobody, the owner included, changes or removes an event. (Erasure will say so in its own setting.)
CREATE FUNCTION tasktrail.append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'tasktrail.% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
REVOKE ALL ON FUNCTION tasktrail.append_only() FROM PUBLIC;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tasktrail.events
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.append_only();
