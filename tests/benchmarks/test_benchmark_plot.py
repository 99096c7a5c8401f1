"""The picture of saved results."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks import plot, report


def saved(ours: list[dict[str, float]], theirs: list[dict[str, float]] | None = None) -> str:
    peer = None if theirs is None else report.Compared(name="other", runs=theirs)
    return report.as_text("tried", "How fast?", {"size": 1}, ours, peer, facts=report.circumstances())


def test_ratios_are_read_in_our_favour():
    text = saved([{"jobs/s": 3_000.0, "p50 us": 2.0}] * 2, [{"jobs/s": 1_500.0, "p50 us": 8.0}] * 2)
    rates, times = plot.read_ratios(text)
    assert (rates.figure, rates.low, rates.median, rates.high) == ("jobs/s", 2.0, 2.0, 2.0)
    assert (times.figure, times.median) == ("p50 us", 4.0)


def test_turned_over_the_smallest_becomes_the_largest():
    (ratio,) = plot.read_ratios(saved([{"ms": 1.0}, {"ms": 4.0}], [{"ms": 2.0}, {"ms": 2.0}]))
    assert (ratio.low, ratio.high) == (0.5, 2.0)


def test_a_figure_that_says_the_same_in_another_unit_is_left_out():
    (ratio,) = plot.read_ratios(saved([{"records/s": 20.0, "MB/s": 2.0}], [{"records/s": 10.0, "MB/s": 1.0}]))
    assert ratio.figure == "records/s"


def test_a_result_without_a_peer_cannot_be_drawn():
    with pytest.raises(ValueError, match="without a peer"):
        plot.read_ratios(saved([{"a": 1.0}]))


def test_ratios_of_a_thousandth_and_of_thousands_are_read_as_they_were():
    large, small = plot.read_ratios(saved([{"a/s": 98_765.0, "b/s": 0.0351}], [{"a/s": 1.0, "b/s": 1.0}]))
    assert (large.median, small.median) == (98_765.0, 0.0351)


def test_ratios_with_two_decimals_in_older_results_are_read():
    rate = f"  {'a/s':<40}{'1.50':>14}{'2,000.25':>14}{'3,000.00':>14}"
    (ratio,) = plot.read_ratios(f"tried: How fast?\n  logqueue / other{report.RATIOS_HEAD}\n{rate}")
    assert (ratio.figure, ratio.low, ratio.median, ratio.high) == ("a/s", 1.5, 2000.25, 3000.0)


def test_the_picture_is_whole_and_bars_stay_within_it():
    ratios = [plot.Ratio("a & b/s", 0.0, 1e9, float("inf")), plot.Ratio("c", 0.1, 0.5, 0.9)]
    picture = ElementTree.fromstring(plot.draw([("one against two", ratios)]))
    width = float(picture.attrib["width"])
    bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if "x" in each.attrib]
    assert len(bars) == 2
    assert all(0 <= float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width for bar in bars)


def test_every_saved_result_with_a_peer_is_drawn(tmp_path):
    file = tmp_path / "all.svg"
    assert plot.main([str(file)]) == 0
    assert "log against apache" in file.read_text()


@pytest.mark.parametrize(("words", "code"), [([], 2), (["x.png"], 2), (["x.svg", "no-such-result"], 1)])
def test_what_cannot_be_drawn_is_told(words, code, capsys):
    assert plot.main(words) == code
    assert capsys.readouterr().err
