-- Issuers whose access tokens are taken, beside those that stand in the settings.

-- migrate:up

-- definition: JSON, what the settings have for one (a table [issuers.NAME]).
CREATE TABLE platform.issuers (
    name        text COLLATE "C" CONSTRAINT issuers_pkey PRIMARY KEY CHECK (name <> ''),
    issuer      text COLLATE "C" NOT NULL CONSTRAINT issuers_issuer_key UNIQUE,
    definition  text NOT NULL,
    enabled     boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Operators' alone: in the operator's scope, like the keys that sign.
ALTER TABLE platform.issuers ENABLE ROW LEVEL SECURITY;
