"""Addresses of published data: complete, dated, and each with a command."""

from dataclasses import replace

import pytest

from vse_gpo.data.addresses import Address, file_size, hub_size, read_addresses


@pytest.mark.parametrize("name", ["coco", "f30k", "f8k"])
def test_every_address_is_dated_and_what_is_fetched_can_be_checked(name):
    known = read_addresses(name)
    assert known.keys() >= {"captions", "images"}
    for one in (one for listed in known.values() for one in listed):
        assert one.address.startswith(("https://", "http://images.cocodataset.org/"))
        assert one.seen == "not checked" or len(one.seen) == len("2026-01-02")
        assert not one.fetched or (one.size and len(one.sha256) == 64)


def test_a_data_set_of_ones_own_has_none():
    assert read_addresses("own") == {}


def test_models_of_experiments_have_a_size():
    assert hub_size("bert-base-uncased") == 438_000_000
    assert hub_size("org/other") is None


def test_an_address_is_shown_with_its_size_its_day_and_its_command():
    one = Address(what="a file", address="https://a", seen="not checked", command="get it")
    assert one.lines("fetch") == ["from a file: https://a (not checked)", "  get it"]
    fetched = replace(one, to="b", size=5, seen="2026-01-02")
    assert fetched.lines("fetch") == ["from a file, 0.0 MB: https://a (seen 2026-01-02)", "  fetch"]
    assert replace(one, copies=["https://b"]).lines("fetch")[1:] == ["  copy: https://b", "  get it"]
    assert replace(one, command=None).lines("fetch") == ["from a file: https://a (not checked)"]
    assert (file_size(13_510_573_713), file_size(36_745_453)) == ("13.5 GB", "36.7 MB")
