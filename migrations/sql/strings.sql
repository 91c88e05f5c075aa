-- A backslash in a string is itself in these functions, also where a role or a database has
-- standard_conforming_strings off: a body is read when it is called, as the caller's strings are.
-- (Where it would cost each command something, as in commit_commands, strings have no backslashes.)
ALTER FUNCTION tasktrail.words SET standard_conforming_strings = on;
ALTER FUNCTION tasktrail.record_access SET standard_conforming_strings = on;

SET LOCAL ROLE tasktrail_operator;
ALTER FUNCTION tasktrail.checkpoint_leaves SET standard_conforming_strings = on;
SET LOCAL ROLE tasktrail_owner;
