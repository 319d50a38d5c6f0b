"""What `routing.py` makes of figures: readable axes, and a table between the markers."""

import tempfile
import unittest
from pathlib import Path

import routing


def figures():
    curve = [[0, 0.9082], [0.5, 0.99], [1, 1]]
    row = {"variant": "Q4_K_M", "figure": "ECE", "mean": 0.01434, "least": 0.01, "greatest": 0.02}
    return {
        "table": [
            row | {"goal": "≤ 0.03", "verdict": "met"},
            row | {"goal": "≤ 0.01", "verdict": "missed"},
            row | {"least": 3.0, "mean": 3.0, "greatest": 3.0, "goal": "", "verdict": None},
        ],
        routing.SHOWN: {
            "clouds": {"labels": {"oracle": curve, "ours": curve, "random": curve}},
            "risk_coverage": {"product": [[0.5, 0.01], [1, 0.0918]]},
            "reliability": {"product": [{"confidence": 0.5, "right": 0.4}]},
        },
    }


class Pictures(unittest.TestCase):
    def test_axes_end_at_whole_percents(self):
        pictures = dict(routing.charts(figures()))
        for name, end in [("accuracy-cost-labels", ">90 %<"), ("risk-coverage", ">10 %<")]:
            self.assertIn(end, pictures[name].svg())


class Table(unittest.TestCase):
    def test_it_stands_between_the_markers_and_all_else_stays(self):
        with tempfile.TemporaryDirectory() as folder:
            readme = Path(folder) / "README.md"
            readme.write_text(f"before\n{routing.BEGIN}\nold\n{routing.END}\nafter\n")
            routing.tell(figures(), readme)
            once = readme.read_text()
            routing.tell(figures(), readme)
            self.assertEqual(readme.read_text(), once)
        self.assertTrue(once.startswith("before\n") and once.endswith("\nafter\n"))
        self.assertNotIn("old", once)
        self.assertIn("| Q4_K_M | ECE | 0.01434 | 0.01 … 0.02 | ≤ 0.01 | **missed** |", once)
        self.assertIn("| 3 |  |  |  |", once)
        self.assertIn("figures/router-risk-coverage.svg", once)

    def test_a_readme_without_markers_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            readme = Path(folder) / "README.md"
            readme.write_text("nothing")
            with self.assertRaises(ValueError):
                routing.tell(figures(), readme)


if __name__ == "__main__":
    unittest.main()
