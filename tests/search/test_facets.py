"""What the photos of an index can be narrowed down by."""

from collections import Counter

from vse_gpo.search.facets import MONTHS, Facets, Span, facets_of, spans_of
from vse_gpo.search.periods import period_of


def test_months_cameras_folders_and_places_are_those_of_the_photos(dated_index):
    assert facets_of(dated_index) == Facets(
        [Span("2022-12", "2023-01", 2), Span("2023-01", "2023-02", 0), Span("2023-02", "2023-03", 1)],
        ["Canon", "iPhone 12"],
        ["trip", "trip/lake"],
        has_places=True,
    )


def test_photos_of_which_nothing_is_known_have_no_facets(index):
    assert facets_of(index) == Facets([], [], [], has_places=False)


def test_many_months_are_shown_as_years():
    first = 12 * 1999 + 11
    few = spans_of(Counter({first: 1, first + MONTHS - 1: 2}))
    assert (len(few), few[0], few[-1]) == (MONTHS, Span("1999-12", "2000-01", 1), Span("2005-11", "2005-12", 2))
    many = spans_of(Counter({first: 1, first + MONTHS: 2, first + 12 * 10: 4}))
    assert [span.photos for span in many] == [1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4]
    assert [span.start for span in many][:2] == ["1999", "2000"]
    for span in [*few, *many]:
        assert period_of("after", span.start).end == period_of("before", span.end).start
