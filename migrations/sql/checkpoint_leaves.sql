-- The leaves of a checkpoint's tree, in order: hashes that tell nothing of other users but how many
-- they are. So one user's proof can be made by whoever may read only that user's ledger. It runs as
-- tasktrail_operator, whom the policies let see all (see search_tasks.sql).
GRANT CREATE ON SCHEMA tasktrail TO tasktrail_operator;
SET LOCAL ROLE tasktrail_operator;

CREATE FUNCTION tasktrail.checkpoint_leaves(p_number bigint) RETURNS SETOF bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256('\x007461736b747261696c2f686561642f763100'::bytea
        || h.genesis || int8send(h.position) || h.hash)
    FROM (
        SELECT DISTINCT ON (c.user_id) c.position, c.hash,
            sha256('\x7461736b747261696c2f6c65646765722f763100'::bytea || convert_to(c.user_id, 'UTF8')) AS genesis
        FROM tasktrail.checkpoint_heads c
        WHERE c.number <= p_number
        ORDER BY c.user_id, c.number DESC
    ) AS h
    ORDER BY h.genesis
$$;
REVOKE ALL ON FUNCTION tasktrail.checkpoint_leaves(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.checkpoint_leaves(bigint) TO tasktrail_app, tasktrail_auditor;

SET LOCAL ROLE tasktrail_owner;
REVOKE CREATE ON SCHEMA tasktrail FROM tasktrail_operator;
