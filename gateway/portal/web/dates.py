"""Dates as people write them in their language: the day, the month by name, the year. The pages are in English."""

from datetime import date

_MONTHS = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "de": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "es": "ene feb mar abr may jun jul ago sept oct nov dic",
    "uk": "січ. лют. бер. квіт. трав. черв. лип. серп. вер. жовт. лист. груд.",  # noqa: RUF001
}
"""Short, as in a date (CLDR)."""
_PATTERNS = {"de": "{0}. {1} {2}", "uk": "{0} {1} {2} р."}  # noqa: RUF001


def written(at: date, language: str) -> str:
    """``26 Nov 2026``, ``26. Nov. 2026``."""
    month = _MONTHS.get(language, _MONTHS["en"]).split()[at.month - 1]
    return _PATTERNS.get(language, "{0} {1} {2}").format(at.day, month, at.year)
