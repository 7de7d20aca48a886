"""What an identity token of it says of somebody."""

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator


class Claims(OAuth2Validator):
    """Who is on the staff has a verified address: Django itself keeps no such mark."""

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        user = request.user
        return {"email": user.email, "email_verified": user.is_staff, "name": user.get_full_name()}
