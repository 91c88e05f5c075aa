-- Append one record of an access, and return its number. Login and time are the database's to say.
--   hash = SHA-256(previous hash || int8 number || int8 microseconds since 1970
--                  || SHA-256(login) || SHA-256(details))
-- The first previous hash is SHA-256('tasktrail/access/v1' || '\0' || user_id).
CREATE FUNCTION tasktrail.record_access(p_user text, p_details text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_number bigint;
    v_at     timestamptz;
    v_hash   bytea;
BEGIN
    PERFORM set_config('tasktrail.user_id', p_user, true);
    FOR v_try IN 1..100 LOOP
        SELECT a.number, a.at, a.hash INTO v_number, v_at, v_hash
        FROM tasktrail.audit_access a WHERE a.user_id = p_user ORDER BY a.number DESC LIMIT 1;
        IF NOT FOUND THEN
            v_number := 0;
            v_hash := sha256('\x7461736b747261696c2f6163636573732f763100'::bytea || convert_to(p_user, 'UTF8'));
        END IF;
        v_number := v_number + 1;
        v_at := greatest(v_at, clock_timestamp());
        v_hash := sha256(
            v_hash || int8send(v_number) || int8send((extract(epoch FROM v_at) * 1000000)::bigint)
            || sha256(convert_to(session_user, 'UTF8')) || sha256(convert_to(p_details, 'UTF8')));
        BEGIN
            INSERT INTO tasktrail.audit_access (user_id, number, login, details, at, hash)
            VALUES (p_user, v_number, session_user, p_details, v_at, v_hash);
            RETURN v_number;
        EXCEPTION WHEN unique_violation THEN
            NULL; -- somebody else was quicker
        END;
    END LOOP;
    RAISE EXCEPTION 'too many records at once' USING ERRCODE = 'serialization_failure';
END
$$;
REVOKE ALL ON FUNCTION tasktrail.record_access(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.record_access(text, text) TO tasktrail_operator, tasktrail_auditor;
