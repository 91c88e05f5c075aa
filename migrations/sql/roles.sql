-- The four group roles. None can log in: a login is made a member of the one it needs.
-- Roles belong to the whole server, so another database of it may have made them already.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['tasktrail_owner', 'tasktrail_app', 'tasktrail_operator', 'tasktrail_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = v_role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', v_role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- made a moment ago, by a migration of another database
            END;
        END IF;
    END LOOP;
    -- The migrating login acts as these two. (Since Postgres 16 whoever makes a role is a member of it
    -- who may grant it, but not act as it: to be asked for is USAGE, not MEMBER.)
    FOREACH v_role IN ARRAY ARRAY['tasktrail_owner', 'tasktrail_operator'] LOOP
        IF NOT pg_catalog.pg_has_role(current_user, v_role, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I', v_role, current_user);
        END IF;
    END LOOP;
END
$$;
