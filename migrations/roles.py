"""The database's roles, and what each may do: the one source of ``consortium db roles``, of the
embedded server's set-up and of the rights that every migration ends with.

| role | logs in | may |
|---|---|---|
| ``medpole_owner`` | no | owns the tables and the trigger function |
| ``medpole_migrator`` | yes | become the owner (SET ROLE), nothing by itself |
| ``medpole_app`` | yes | SELECT and INSERT; DELETE on ``disclosures`` only |
| ``medpole_auditor`` | yes | SELECT on what is on the ledger, and on evidence |

The auditor reads neither ``submissions`` (not on the ledger yet, and it may never be: a pending
record is its institution's and the coordinator's) nor ``disclosures`` (an erasure must not have to
reach the copies of a standing reader; what opens a commitment is handed over one by one).

Roles belong to the whole server, rights to one database. Both scripts may run again at any time,
and at once in several databases of a server.
"""

OWNER = "medpole_owner"
APPLICATION = "medpole_app"
AUDITOR = "medpole_auditor"
MIGRATOR = "medpole_migrator"
LOGINS = (APPLICATION, AUDITOR, MIGRATOR)

# Held by whoever changes a ledger's schema or rights; any number that nobody else uses.
MIGRATION_LOCK = 0x6D65_6450_6F4C_6501

# By an administrator: a superuser, or the database's owner with CREATEROLE.
ROLES = f"""\
DO $roles$
DECLARE
    name text;
    attributes text;
    relation regclass;
BEGIN
    PERFORM pg_advisory_xact_lock({MIGRATION_LOCK});

    -- The roles. Another database's set-up may make them at the same time.
    FOR name, attributes IN SELECT * FROM (VALUES
        ('medpole_owner', 'NOLOGIN'),
        ('medpole_app', 'LOGIN'),
        ('medpole_auditor', 'LOGIN'),
        ('medpole_migrator', 'LOGIN NOINHERIT')
    ) AS role LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = name);
        BEGIN
            EXECUTE format('CREATE ROLE %I %s', name, attributes);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    IF NOT pg_has_role('medpole_migrator', 'medpole_owner', 'MEMBER') THEN
        BEGIN
            GRANT medpole_owner TO medpole_migrator;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;
    -- An administrator who is no superuser needs this to give tables to the owner.
    IF NOT pg_has_role(current_user, 'medpole_owner', 'USAGE') THEN
        GRANT medpole_owner TO CURRENT_USER;
    END IF;

    -- The database: everyone has CONNECT and TEMPORARY on a new one, USAGE on its schema public.
    EXECUTE format(
        'REVOKE ALL ON DATABASE %I FROM PUBLIC, medpole_app, medpole_auditor, medpole_migrator',
        current_database()
    );
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO medpole_app, medpole_auditor, medpole_migrator',
        current_database()
    );
    REVOKE ALL ON SCHEMA public FROM PUBLIC, medpole_app, medpole_auditor, medpole_migrator;
    GRANT USAGE, CREATE ON SCHEMA public TO medpole_owner;
    GRANT USAGE ON SCHEMA public TO medpole_app, medpole_auditor, medpole_migrator;
    -- PostgreSQL only warns of what it did not revoke or grant.
    IF NOT has_schema_privilege('medpole_owner', 'public', 'CREATE') THEN
        RAISE insufficient_privilege
            USING MESSAGE = 'run this as the owner of the database, or as a superuser';
    END IF;

    -- What was made before there were roles.
    FOR relation IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
            AND relowner <> 'medpole_owner'::regrole
            AND relname IN ('alembic_version', 'entries', 'blocks', 'cosignatures',
                'submissions', 'conflicts', 'disclosures')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO medpole_owner', relation);
    END LOOP;
    IF to_regprocedure('public.refuse_change()') IS NOT NULL THEN
        ALTER FUNCTION public.refuse_change() OWNER TO medpole_owner;
    END IF;
END
$roles$;
"""  # noqa: S608 (our own constant)

# By the owner, or by who may act as it. A table that is not there yet is granted when it is made.
GRANTS = f"""\
DO $grants$
DECLARE
    name text;
    application text;
    auditor text;
BEGIN
    PERFORM pg_advisory_xact_lock({MIGRATION_LOCK});
    FOR name, application, auditor IN SELECT * FROM (VALUES
        ('alembic_version', 'SELECT', 'SELECT'),
        ('entries', 'SELECT, INSERT', 'SELECT'),
        ('blocks', 'SELECT, INSERT', 'SELECT'),
        ('cosignatures', 'SELECT, INSERT', 'SELECT'),
        ('conflicts', 'SELECT, INSERT', 'SELECT'),
        ('submissions', 'SELECT, INSERT', NULL),
        ('disclosures', 'SELECT, INSERT, DELETE', NULL)
    ) AS rights LOOP
        CONTINUE WHEN to_regclass('public.' || name) IS NULL;
        EXECUTE format(
            'REVOKE ALL ON public.%I FROM PUBLIC, medpole_app, medpole_auditor, medpole_migrator',
            name
        );
        EXECUTE format('GRANT %s ON public.%I TO medpole_app', application, name);
        IF auditor IS NOT NULL THEN
            EXECUTE format('GRANT %s ON public.%I TO medpole_auditor', auditor, name);
        END IF;
    END LOOP;
    IF to_regprocedure('public.refuse_change()') IS NOT NULL THEN
        REVOKE ALL ON FUNCTION public.refuse_change() FROM PUBLIC;
    END IF;
END
$grants$;
"""  # noqa: S608 (our own constant)
