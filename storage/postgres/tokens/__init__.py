"""Access tokens: the keys that sign them, the log-ins that renew them, and who may ask for one.

================ ==============================================================================
families         log-ins that can be renewed, and what was revoked before its time
signing_keys     keys that sign, with the instants of their lives
service_accounts programs that ask for tokens
issuers          others whose tokens are taken
================ ==============================================================================
"""
