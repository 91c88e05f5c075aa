"""How much of everybody's rows a login sees."""

SEES_ALL = """
SELECT r.rolsuper OR r.rolbypassrls OR pg_has_role('tasktrail_operator', 'USAGE')
    OR pg_has_role('tasktrail_auditor', 'USAGE')
FROM pg_roles r WHERE r.rolname = current_user
"""
"""Whether row-level security hides nobody from this login."""
