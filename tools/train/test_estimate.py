"""What is measured of a text, and that the fits find what is there."""

import json
import random
import unittest

import estimate


class Measuring(unittest.TestCase):
    def test_the_samples_of_the_appliance_are_measured_the_same(self):
        lines = estimate.GOLDEN.read_text().splitlines()
        self.assertGreater(len(lines), 20)
        for line in lines:
            sample = json.loads(line)
            found = estimate.features(sample["text"], sample["schema"])
            self.assertEqual(found, sample["features"], sample["text"])
            self.assertEqual(estimate.counts(sample["text"]), sample["counts"])

    def test_a_unit_follows_a_number(self):
        seen = estimate.look("9.8 mm/s, 45 °C, 3,5% of 7")
        self.assertEqual((seen["numbers"], seen["units"]), (4, 3))

    def test_keys_of_a_schema_stand_outside_of_texts(self):
        self.assertEqual(estimate.keys('{"a":{"b":":"},"c":"\\":"}'), 3)


class Fitting(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(7)

    def test_least_squares_finds_the_weights(self):
        samples = [[1.0, self.random.random(), self.random.random()] for _ in range(100)]
        values = [3 - 2 * b + 0.5 * c for _, b, c in samples]
        for found, real in zip(estimate.least_squares(samples, values), (3, -2, 0.5)):
            self.assertAlmostEqual(found, real, places=4)

    def test_the_logistic_regression_finds_what_makes_answers_wrong(self):
        samples = [[1.0, self.random.gauss(5, 2), self.random.random()] for _ in range(4000)]
        wrong = [self.random.random() < estimate.share(-6 + b) for _, b, _ in samples]
        constant, slope, nothing = estimate.logistic(samples, wrong)
        self.assertAlmostEqual(slope, 1, delta=0.15)
        self.assertAlmostEqual(constant, -6, delta=0.8)
        self.assertAlmostEqual(nothing, 0, delta=0.4)

    def test_a_measure_that_may_only_make_it_harder_never_makes_it_easier(self):
        capitals = estimate.FEATURES.index("capitals")
        samples = [[1.0] + [self.random.random() for _ in estimate.FEATURES[1:]]
                   for _ in range(1000)]
        wrong = [self.random.random() < estimate.share(-3 * it[capitals]) for it in samples]
        self.assertLess(estimate.logistic(samples, wrong)[capitals], -1)
        found = estimate.harder(samples, wrong)
        bound = [found[estimate.FEATURES.index(name)] for name in estimate.ONLY_HARDER]
        self.assertEqual(found[capitals], 0)
        self.assertGreaterEqual(min(bound), 0)


if __name__ == "__main__":
    unittest.main()
