"""The words for how sure a number of clusters is: never a sure one where another number is as good"""

import numpy as np
import pytest

from deepclust.plugins.silhouette.certainty import judge, shown


def rows_of(leads, *, best=2, gap=50.0, deviations=None, **more):
    """Numbers of clusters from 2 on; the one at ``best`` is chosen and the neighbour graph shows it."""
    rows = []
    for j, lead in enumerate(leads):
        deviation = 0.0 if deviations is None else deviations[j]
        row = {"n_clusters": j + 2, "score": 0.6 - lead, "chosen": 20 * (j == best), "lead": lead}
        row |= {"lead_deviation": deviation, "gap": gap if j == best else 1.0, "stability": 0.95}
        rows.append({**row, "reference": 0.1, **(more if j == best else {})})
    return rows


def judged(rows, best=2, samples=5000, high=30, distinct=5000):
    return judge(rows, best, 20, samples, high, distinct)


def test_nothing_against_it_is_sure():
    found = judged(rows_of([0.2, 0.1, 0, 0.05, 0.3]))
    assert (found.degree, found.alternatives, found.doubts) == ("sure", [], [])
    assert found.sentence == (
        "4 clusters, sure: 20 of 20 repetitions chose it, the next best (5) scores 0.05 less, "
        "and the neighbour graph shows it too."
    )


@pytest.mark.parametrize(("lead", "gap"), [(0.02, 50), (0.2, 2.0)])
def test_less_to_show_for_it_is_fairly_sure(lead, gap):
    assert judged(rows_of([0.2, 0.2, 0, lead, 0.3], gap=gap)).degree == "fairly sure"


def test_a_number_within_a_hundredth_is_never_sure_and_always_named():
    rng = np.random.default_rng(0)
    for _ in range(300):
        leads = rng.uniform(-0.2, 0.4, 6)
        near = int(rng.choice([0, 1, 3, 4, 5]))
        leads[near], leads[2] = rng.uniform(-0.01, 0.01), 0
        found = judged(rows_of(leads.tolist(), gap=rng.uniform(0, 100)))
        assert found.degree == "not sure"
        assert near + 2 in found.alternatives
        assert found.sentence.startswith("4 clusters, not sure: ")


def test_a_lead_that_comes_and_goes_over_the_repetitions_is_a_tie():
    leads, steady, loose = [0.3, 0.3, 0, 0.06, 0.3], [0, 0, 0, 0.02, 0], [0, 0, 0, 0.06, 0]
    assert judged(rows_of(leads, deviations=steady)).degree == "sure"
    found = judged(rows_of(leads, deviations=loose))
    assert (found.degree, found.alternatives) == ("not sure", [5])


@pytest.mark.parametrize(
    ("leads", "words"),
    [
        ([0.2, 0.3, 0, 0.004], "4 clusters, not sure: 5 is nearly as good"),
        ([0.2, 0.001, 0, 0.004], "4 clusters, not sure: 3 or 5 are nearly as good"),
        ([0.011, 0.001, 0, 0.004, 0.2], "4 clusters, not sure: 2, 3 or 5 are nearly as good"),
        (
            [0.011, 0.001, 0, 0.004, 0.012, 0.2],
            "4 clusters, not sure: 2, 3, 5 and 1 more are nearly as good",
        ),
        ([-0.1, -0.3, 0, 0.2], "4 clusters, not sure: the silhouette prefers 3"),
    ],
)
def test_alternatives_are_named(leads, words):
    assert judged(rows_of([*leads, 0.5])).sentence == words + ", but the neighbour graph shows 4."
    assert judged(rows_of([*leads, 0.5], gap=1)).sentence == words + "; the neighbour graph shows no number."


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"gap": 1.79}, "the neighbour graph shows no number"),
        ({"reference": 0.59}, "there may be none"),
        ({"stability": 0.69}, "change from repetition"),
    ],
)
def test_each_doubt_is_enough(change, doubt):
    found = judged(rows_of([0.2, 0.1, 0, 0.05, 0.3], **change))
    assert found.degree == "not sure"
    assert doubt in found.sentence


def test_few_samples_are_never_sure():
    rows = rows_of([0.2, 0.1, 0, 0.05, 0.3])
    assert judged(rows, samples=400).degree == "sure"
    assert "99 samples for each are too few" in judged(rows, samples=399).sentence


def test_edges_of_the_range():
    last = rows_of([0.2, 0.1, 0])
    assert "auto:2-8" in judged(last, high=4).sentence
    assert "so few samples allow" in judged(last, high=9).sentence
    assert judged(last, high=9, distinct=4).degree == "sure", "there are no more different codes"


def test_the_graph_shows_its_largest_gap_or_nothing():
    assert shown([0.9, 2.0, 7.0, 3.0]) == 2
    assert shown([0.9, 1.7, 1.1]) is None
