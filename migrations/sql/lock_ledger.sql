-- Lock a user's ledger against appends until the transaction ends, and return its head's position.
-- For rebuild: the operator may read every ledger but update none.
CREATE FUNCTION tasktrail.lock_ledger(p_user text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_position bigint;
BEGIN
    PERFORM set_config('tasktrail.user_id', p_user, true);
    SELECT l.position INTO v_position FROM tasktrail.ledgers l WHERE l.user_id = p_user FOR UPDATE;
    RETURN v_position;
END
$$;
REVOKE ALL ON FUNCTION tasktrail.lock_ledger(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.lock_ledger(text) TO tasktrail_operator;
