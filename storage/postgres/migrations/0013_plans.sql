-- Plans that operators offer, tenants that are on one, and tenants that are leaving.

-- migrate:up

-- limits: JSON, a list of [what, text] such as ["audio", "100h/month"]; routes: by name, none: all of them.
CREATE TABLE platform.plans (
    name        text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    limits      text NOT NULL,
    routes      text[] COLLATE "C" NOT NULL,
    rating      text NOT NULL,
    note        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- 'deleting': refused like a suspended one, and gone after delete_after; status_before is what restoring gives back.
ALTER TABLE platform.tenants
    ADD COLUMN plan text COLLATE "C" CONSTRAINT tenants_plan_fkey REFERENCES platform.plans,
    ADD COLUMN delete_after timestamptz,
    ADD COLUMN status_before text;
ALTER TABLE platform.tenants DROP CONSTRAINT tenants_status_check;
ALTER TABLE platform.tenants ADD CONSTRAINT tenants_status_check CHECK (status IN ('active', 'suspended', 'deleting'));
ALTER TABLE platform.tenants ADD CONSTRAINT tenants_delete_check CHECK (
    (status = 'deleting') = (delete_after IS NOT NULL) AND (status = 'deleting') = (status_before IS NOT NULL)
);
CREATE INDEX tenants_plan_idx ON platform.tenants (plan) WHERE plan IS NOT NULL;

-- A tenant sees the plan that it is on; only operators write one.
ALTER TABLE platform.plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.plans TO platform_app
    USING (EXISTS (
        SELECT FROM platform.tenants
        WHERE tenants.plan = plans.name AND tenants.id = current_setting('platform.tenant', true)
    ));
GRANT SELECT ON platform.plans TO platform_app;

-- Who leaves a tenant leaves keys behind that are revoked and nobody's.
GRANT UPDATE (user_id) ON platform.api_keys TO platform_app;
