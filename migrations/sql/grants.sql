-- Readiness asks which revision this database is at.
GRANT SELECT ON tasktrail.alembic_version TO tasktrail_app, tasktrail_operator, tasktrail_auditor;
