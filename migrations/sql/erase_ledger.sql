-- Erase what people wrote in one user's ledger: the body and the salt of every event up to p_through,
-- all read rows, and all remembered answers. What stays is the chain: who did what and when, and the
-- commitments to words that nobody can read or guess any more. LedgerErased says so, in the chain.
--
-- p_event is LedgerErased, sealed by Python (events.erasure) for the head at p_through.
--
-- Out: `status` is
--   erased     LedgerErased is the new `head`; how many `events` lost their words
--   unchanged  the ledger ends with an erasure: there is nothing to erase
--   held       a hold prevents it
--   moved      the head is not at p_through: read it again
--   nothing    there is no such ledger
-- But for the first, nothing was written.
CREATE FUNCTION tasktrail.erase_ledger(
    p_user       text,
    p_through    bigint,
    p_command_id uuid,
    p_actor      jsonb,
    p_event      jsonb,
    OUT status   text,
    OUT head     bigint,
    OUT events   bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_ledger tasktrail.ledgers;
    v_at     timestamptz;
    v_hash   bytea;
BEGIN
    PERFORM set_config('tasktrail.user_id', p_user, true);
    SELECT l.* INTO v_ledger FROM tasktrail.ledgers l WHERE l.user_id = p_user FOR UPDATE;
    IF NOT FOUND OR v_ledger.position = 0 THEN
        status := 'nothing';
    ELSIF EXISTS (SELECT FROM tasktrail.holds h WHERE h.user_id = p_user) THEN
        status := 'held';
    ELSIF EXISTS (
        SELECT FROM tasktrail.events e
        WHERE e.user_id = p_user AND e.position = v_ledger.position AND e.type = 'LedgerErased'
    ) THEN
        status := 'unchanged';
        head := v_ledger.position;
    ELSIF v_ledger.position <> p_through THEN
        status := 'moved';
    END IF;
    IF status IS NOT NULL THEN
        RETURN;
    END IF;

    -- The erasure itself comes first: only what it covers may lose its words (append_only.sql).
    head := p_through + 1;
    v_at := greatest(v_ledger.last_recorded_at, clock_timestamp());
    v_hash := sha256(
        v_ledger.hash || decode(p_event ->> 'content_hash', 'hex') || int8send(head)
        || int8send(head) || int8send(1)
        || int8send((extract(epoch FROM v_at) * 1000000)::bigint));
    INSERT INTO tasktrail.events (
        user_id, position, stream_type, stream_id, version, type, schema_version, event_id,
        command_id, actor, commitment, body, salt, content_hash, hash, recorded_at)
    VALUES (
        p_user, head, 'ledger', head, 1, 'LedgerErased',
        (p_event ->> 'schema_version')::integer, (p_event ->> 'event_id')::uuid, p_command_id, p_actor,
        decode(p_event ->> 'commitment', 'hex'), p_event -> 'body', decode(p_event ->> 'salt', 'hex'),
        decode(p_event ->> 'content_hash', 'hex'), v_hash, v_at);
    UPDATE tasktrail.ledgers
    SET position = erase_ledger.head, hash = v_hash, last_recorded_at = v_at
    WHERE user_id = p_user;

    UPDATE tasktrail.events e SET body = NULL, salt = NULL
    WHERE e.user_id = p_user AND e.position <= p_through AND e.type <> 'LedgerErased'
    AND (e.body IS NOT NULL OR e.salt IS NOT NULL);
    GET DIAGNOSTICS events = ROW_COUNT;
    DELETE FROM tasktrail.tasks t WHERE t.user_id = p_user;
    DELETE FROM tasktrail.messages m WHERE m.user_id = p_user;
    DELETE FROM tasktrail.conversations c WHERE c.user_id = p_user;
    DELETE FROM tasktrail.idempotency i WHERE i.user_id = p_user;
    status := 'erased';
END
$$;
REVOKE ALL ON FUNCTION tasktrail.erase_ledger FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.erase_ledger TO tasktrail_operator;
