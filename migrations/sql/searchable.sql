-- `words` put apart, and most texts without a call of it: this is inlined, and they are ASCII.
CREATE OR REPLACE FUNCTION tasktrail.words_apart(p_text text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN octet_length(p_text) > length(p_text) THEN tasktrail.words(p_text, true)
    ELSE regexp_replace(p_text, '[!-/:-@[-`{-~]+', ' ', 'g')
END;

-- What a task can be found by: its title (A), its tags (B), its description (C).
CREATE OR REPLACE FUNCTION tasktrail.searchable(p_title text, p_tags text[], p_description text) RETURNS tsvector
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    v_found tsvector := setweight(to_tsvector('pg_catalog.simple', tasktrail.words_apart(p_title)), 'A');
BEGIN
    IF p_tags <> '{}' THEN
        v_found := v_found || setweight(
            to_tsvector('pg_catalog.simple', tasktrail.words_apart(array_to_string(p_tags, ' '))), 'B');
    END IF;
    IF p_description IS NOT NULL THEN
        v_found := v_found || setweight(
            to_tsvector('pg_catalog.simple', tasktrail.words_apart(p_description)), 'C');
    END IF;
    RETURN v_found;
END
$$;

-- Whoever writes a task calls these in its trigger: the owner in commit_commands, the operator itself.
REVOKE ALL ON FUNCTION tasktrail.words_apart, tasktrail.searchable FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.words_apart, tasktrail.searchable TO tasktrail_operator;
GRANT EXECUTE ON FUNCTION tasktrail.words_apart, tasktrail.searchable TO tasktrail_auditor; -- verify --words
