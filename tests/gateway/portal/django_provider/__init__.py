"""A provider as others run it: Django OAuth Toolkit with its own log-in and consent, as a program of its own.

    python -m tests.gateway.portal.django_provider '{"callbacks": [URL…], "people": [{"name", "email", "verified"}…]}'

Listens on a port of its own and prints it. Each name that it is reached by (``127.0.0.1``, ``localhost``) is an issuer.
"""

CLIENT = "tahoe"
SECRET = "the client's secret: 100%"
PASSWORD = "a password over there"
