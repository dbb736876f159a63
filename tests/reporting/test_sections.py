"""The sections of the page and of the dashboard. That a run logs what they name is tested with the loggers."""

from vse_gpo.reporting.sections import logged_name, shown_sections


def test_the_sections_and_their_order():
    titles = ["Recalls", "Losses", "What the poolings have learned", "Queries", "Throughput", "Settings"]
    assert [section.title for section in shown_sections()] == titles
    assert [section.page for section in shown_sections() if section.page] == [
        "tables",
        "poolings",
        "queries",
        "settings",
    ]


def test_no_two_charts_have_one_title():
    titles = [title for section in shown_sections() for title in section.lines]
    assert len(titles) == len(set(titles))


def test_a_pattern_stands_for_the_first_name_that_fits():
    names = ["step", "lr-AdamW/heads", "lr-AdamW/trunk", "train/loss"]
    assert logged_name("lr-*", names) == "lr-AdamW/heads"
    assert logged_name("train/loss", names) == "train/loss"
    assert logged_name("train/los", names) is None
