-- How text becomes words for full-text search, the same for what is stored and for what is asked.

-- A text with spaces in place of all that is no part of a word. Without this the parser would take
-- b@example.org, v2.0, a-b and <b> for words of a special kind or for none; and where the locale is C,
-- quotation marks and full stops of other scripts for letters.
-- `p_apart`: Chinese, Japanese, Thai, Lao, Burmese and Khmer are written without spaces; put one after
-- each character with its marks, so that what is in the middle can be found too.
CREATE FUNCTION tasktrail.words(p_text text, p_apart boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF octet_length(p_text) > length(p_text) THEN
        p_text := regexp_replace(p_text,
            '[\u0080-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u02c2-\u02df\u037e\u0387'
            '\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4'
            '\u0964\u0965\u0970\u0e2f\u0e3f\u0e4f\u0e5a\u0e5b\u0f08-\u0f14\u104a-\u104f\u1361-\u1368'
            '\u17d4-\u17db\u2000-\u200b\u200e-\u206f\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e7f\u3000-\u3004'
            '\u3008-\u3020\u3030\u303d\u30fb\ufe0f-\ufe1f\ufe30-\ufe6f\uff01-\uff0f\uff1a-\uff20'
            '\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001faff]+', ' ', 'g');
        IF p_apart THEN
            p_text := regexp_replace(p_text,
                '([\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]'
                '|[\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46][\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]*'
                '|[\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6][\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece]*'
                '|[\u1000-\u102a\u103f][\u102b-\u103e]*|[\u1780-\u17b3][\u17b4-\u17d3]*)', ' \1 ', 'g');
        END IF;
    END IF;
    RETURN regexp_replace(p_text, '[!-/:-@[-`{-~]+', ' ', 'g');  -- a tenth of translate()'s time
END
$$;

-- A question: each of its first 12 words begins a word of what is looked for; NULL without any.
-- `p_where`: letters of the parts where they have to be. (To to_tsquery a word that is put apart is a
-- phrase.)
CREATE FUNCTION tasktrail.question(p_query text, p_where text DEFAULT '') RETURNS tsquery
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT to_tsquery('pg_catalog.simple', string_agg(quote_literal(tasktrail.words(w.word, true)) || ':*' || p_where, ' & '))
    FROM (
        SELECT w.word FROM regexp_split_to_table(tasktrail.words(p_query, false), '\s+') AS w(word)
        WHERE w.word <> '' LIMIT 12
    ) AS w
);

-- The operator calls these for search_tasks and, as the auditor does for verify --words, in searchable.
REVOKE ALL ON FUNCTION tasktrail.words, tasktrail.question FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tasktrail.words, tasktrail.question TO tasktrail_operator;
GRANT EXECUTE ON FUNCTION tasktrail.words TO tasktrail_auditor;
