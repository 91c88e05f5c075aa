-- Row-level security for a table whose key starts with user_id. FORCE: the owner is bound by it too.
-- Without a user set the tenant policy shows nothing (the setting is NULL, or '' after a transaction).
CREATE FUNCTION tasktrail.protect(p_table regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p_table);
    EXECUTE format(
        'CREATE POLICY tenant ON %s'
        ' USING (user_id = NULLIF(current_setting(''tasktrail.user_id'', true), ''''))'
        ' WITH CHECK (user_id = NULLIF(current_setting(''tasktrail.user_id'', true), ''''))', p_table);
    EXECUTE format('CREATE POLICY operator ON %s TO tasktrail_operator USING (true) WITH CHECK (true)', p_table);
    EXECUTE format('CREATE POLICY auditor ON %s FOR SELECT TO tasktrail_auditor USING (true)', p_table);
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', p_table);
    EXECUTE format('GRANT SELECT ON %s TO tasktrail_app, tasktrail_operator, tasktrail_auditor', p_table);
END
$$;
REVOKE ALL ON FUNCTION tasktrail.protect(regclass) FROM PUBLIC;
