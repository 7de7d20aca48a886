"""Settings, a database in memory, the client and the people; then serve until the end."""

import json
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings

from tests.gateway.portal.django_provider import CLIENT, PASSWORD, SECRET

_HERE = "tests.gateway.portal.django_provider"
_LOGIN = '<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}"></form>'


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Only what goes wrong is said."""


def main() -> None:
    """Run it."""
    _configure()
    _fill(json.loads(sys.argv[1]))
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415  only now are there settings

    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=_Quiet) as server:
        print(server.server_port, flush=True)  # noqa: T201  whoever started it reads this
        server.serve_forever()


def _configure() -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    templates = [
        ("django.template.loaders.locmem.Loader", {"registration/login.html": _LOGIN}),
        "django.template.loaders.app_directories.Loader",
    ]
    settings.configure(
        SECRET_KEY="of a test",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=f"{_HERE}.urls",
        LOGIN_URL="/login/",
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # it is fast, and nobody's password
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": templates}},
        ],
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": pem.decode(),
            "PKCE_REQUIRED": True,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
            "SCOPES": {"openid": "OpenID", "email": "your e-mail address", "profile": "your name"},
            "OAUTH2_VALIDATOR_CLASS": f"{_HERE}.claims.Claims",
        },
    )
    django.setup()


def _fill(said: dict[str, list[dict[str, str]]]) -> None:
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from oauth2_provider.models import Application  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    Application.objects.create(
        name="Tahoe", client_id=CLIENT, client_secret=SECRET, redirect_uris=" ".join(said["callbacks"]),
        client_type="confidential", authorization_grant_type="authorization-code", algorithm="RS256",
    )  # fmt: skip
    for one in said["people"]:
        User.objects.create_user(
            one["name"], one["email"], PASSWORD, first_name=one["name"].title(), is_staff=bool(one["verified"])
        )


if __name__ == "__main__":
    main()
