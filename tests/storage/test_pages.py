"""Templates of pages: their values are text, whatever they hold."""

from markupsafe import Markup

from vse_gpo.storage.pages import page_templates


def test_values_are_escaped_and_markup_is_kept():
    pages = page_templates("vse_gpo.reporting")
    page = pages.from_string("{% macro bold(text) %}<b>{{ text }}</b>{% endmacro %}{{ bold(name) }}{{ part }}{{ 3 }}")
    assert page.render(name="<i>\u202e", part=Markup("<hr>")) == "<b>&lt;i&gt;\\u202e</b><hr>3"
