"""A person's own pages.

========= ==============================================================================
account   the account and what is in it; ``security`` password and second factor, ``keys`` API tokens
addresses another e-mail address
statement a tenant's month as a page that prints
========= ==============================================================================
"""
