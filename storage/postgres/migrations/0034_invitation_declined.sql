-- Whether it was the invited who ended an invitation: revoked_at says when. What is open is what it was.

-- migrate:up

ALTER TABLE platform.invitations ADD COLUMN declined boolean NOT NULL DEFAULT false;

GRANT SELECT (declined) ON platform.invitations TO platform_app;
