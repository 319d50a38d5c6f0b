"""The measures against cases that can be worked out by hand."""

import math
import random
import unittest

import measures


class Answers(unittest.TestCase):
    def test_each_figure_is_of_the_free_tokens_and_a_certain_answer_has_none(self):
        answer = {"confidence": 0.1, "free": [[math.log(0.5), math.log(2)], [math.log(0.2), 0.0]]}
        certain = {"confidence": 1.0, "free": []}
        figures = [measures.product, measures.minimum, measures.mean, measures.clarity]
        found = [round(figure(answer), 6) for figure in figures]
        self.assertEqual(found, [0.1, 0.2, round(0.1**0.5, 6), round(0.5**0.5, 6)])
        self.assertEqual([figure(certain) for figure in figures], [1.0] * 4)


class Ranking(unittest.TestCase):
    def test_auroc_counts_the_pairs_in_the_right_order(self):
        self.assertEqual(measures.auroc([0.9, 0.8, 0.3, 0.1], [True, True, False, False]), 1.0)
        self.assertEqual(measures.auroc([0.1, 0.9], [True, False]), 0.0)
        # pairs: (0.9, 0.5) right, (0.9, 0.2) right, (0.4, 0.5) wrong, (0.4, 0.2) right
        self.assertEqual(measures.auroc([0.9, 0.5, 0.4, 0.2], [True, False, True, False]), 0.75)

    def test_equal_confidences_earn_half(self):
        self.assertEqual(measures.auroc([0.5] * 5, [True, False, True, False, False]), 0.5)

    def test_auroc_needs_both_outcomes(self):
        self.assertIsNone(measures.auroc([0.5, 0.6], [True, True]))
        self.assertIsNone(measures.auroc([], []))

    def test_risk_falls_where_confidence_ranks_well(self):
        confidences, rights = [0.9, 0.8, 0.7, 0.6], [True, True, True, False]
        expected = [(0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (1.0, 0.25)]
        self.assertEqual(measures.risk_coverage(confidences, rights), expected)
        self.assertEqual(measures.aurc(confidences, rights), 0.0625)
        self.assertEqual(measures.accuracy_at(confidences, rights, 0.75), 1.0)
        self.assertEqual(measures.accuracy_at(confidences, rights, 1.0), 0.75)

    def test_equal_confidences_are_kept_together(self):
        self.assertEqual(measures.risk_coverage([0.5, 0.5], [True, False]), [(1.0, 0.5)])
        self.assertEqual(measures.accuracy_at([0.5, 0.5], [True, False], 0.5), 0.5)


class Honesty(unittest.TestCase):
    def test_the_error_weighs_each_bin_by_its_items(self):
        confidences = [0.95, 0.95, 0.95, 0.15]
        rights = [True, True, False, False]
        expected = 0.75 * abs(0.95 - 2 / 3) + 0.25 * 0.15
        self.assertAlmostEqual(measures.calibration_error(confidences, rights), expected)

    def test_certainty_falls_into_the_last_bin(self):
        table = measures.reliability([1.0, 0.0], [True, False])
        self.assertEqual([row["items"] for row in table], [1, 1])
        self.assertEqual(measures.calibration_error([1.0, 0.0], [True, False]), 0.0)

    def test_nothing_has_no_error(self):
        self.assertIsNone(measures.calibration_error([], []))


class Calibration(unittest.TestCase):
    def test_violators_are_pooled(self):
        blocks = measures.isotonic([0.1, 0.2, 0.3, 0.4], [False, True, False, True], least=1)
        shares = [(weight, round(right, 3)) for weight, _, right in blocks]
        self.assertEqual(shares, [(1, 0.0), (2, 0.5), (1, 1.0)])

    def test_blocks_never_fall_and_are_never_small(self):
        confidences, rights = _overconfident(3000)
        blocks = measures.isotonic(confidences, rights)
        shares = [right for _, _, right in blocks]
        self.assertEqual(shares, sorted(shares))
        self.assertTrue(all(weight >= 20 for weight, _, _ in blocks))
        self.assertEqual(sum(weight for weight, _, _ in blocks), 3000)

    def test_equal_confidences_share_a_block(self):
        blocks = measures.isotonic([0.5] * 60, [False] * 30 + [True] * 30)
        self.assertEqual(blocks, [[60, 0.5, 0.5]])

    def test_points_rise_from_0_to_1_within_the_limit(self):
        points = measures.calibration_points(*_overconfident(20_000), limit=12)
        self.assertLessEqual(len(points), 12)
        self.assertEqual((points[0][0], points[-1][0]), (0.0, 1.0))
        self.assertEqual(points, sorted(points))
        self.assertEqual([y for _, y in points], sorted(y for _, y in points))

    def test_no_point_claims_certainty(self):
        points = measures.calibration_points([0.9] * 50, [True] * 50)
        self.assertTrue(all(0 < y < 1 for _, y in points))

    def test_calibration_makes_an_overconfident_model_honest(self):
        points = measures.calibration_points(*_overconfident(20_000))
        fresh, rights = _overconfident(20_000, seed=2)
        mapped = [measures.calibrated(points, confidence) for confidence in fresh]
        self.assertGreater(measures.calibration_error(fresh, rights), 0.08)
        self.assertLess(measures.calibration_error(mapped, rights), 0.02)

    def test_held_out_confidences_are_honest_but_keep_the_order_of_their_half(self):
        confidences, rights = _overconfident(20_000)
        mapped = measures.held_out(confidences, rights)
        self.assertLess(measures.calibration_error(mapped, rights), 0.02)
        half = [value for _, value in sorted(zip(confidences[::2], mapped[::2]))]
        self.assertEqual(half, sorted(half))

    def test_the_line_is_straight_between_points_and_flat_beyond(self):
        points = [[0.2, 0.1], [0.6, 0.5]]
        mapped = [round(measures.calibrated(points, x), 9) for x in (0.0, 0.2, 0.4, 0.6, 1.0)]
        self.assertEqual(mapped, [0.1, 0.1, 0.3, 0.5, 0.5])


def _overconfident(items, seed=1):
    """Answers that are right less often than they claim."""
    chance = random.Random(seed)
    confidences = [chance.random() ** 0.5 for _ in range(items)]
    return confidences, [chance.random() < confidence**2 for confidence in confidences]


if __name__ == "__main__":
    unittest.main()
