"""How good a confidence is: ranking (AUROC, AURC), honesty (ECE), calibration (isotonic).

Pure functions, most of them over two sequences: the confidence of each answer, and whether it was
right.
"""

import math
import statistics
from bisect import bisect_right


def product(answer):
    """The appliance's raw confidence, as its engine reckoned it: how likely the free tokens were."""
    return answer["confidence"]


def minimum(answer):
    """How likely the least likely of the free tokens was."""
    return math.exp(min(_free(answer, 0), default=0.0))


def mean(answer):
    """How likely the free tokens were in the geometric mean."""
    return math.exp(statistics.fmean(_free(answer, 0) or [0.0]))


def clarity(answer):
    """How few tokens the model wavered between, in the mean: 1 where it never did."""
    return math.exp(-statistics.fmean(_free(answer, 1) or [0.0]))


def _free(answer, which):
    """Of each token that the constraint had not decided, its log probability or the entropy."""
    return [token[which] for token in answer["free"]]


def share(rights):
    """The share of true values; None of nothing."""
    rights = list(rights)
    return sum(rights) / len(rights) if rights else None


def auroc(confidences, rights):
    """The chance that a right answer is more confident than a wrong one; None without both."""
    ranked = sorted(zip(confidences, rights))
    positives = sum(rights)
    negatives = len(ranked) - positives
    if not positives or not negatives:
        return None
    rank_sum, start = 0.0, 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        middle = (start + 1 + end) / 2  # equal confidences share their mean rank
        rank_sum += middle * sum(right for _, right in ranked[start:end])
        start = end
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def reliability(confidences, rights, bins=10):
    """For each bin in use: items, mean confidence, share right."""
    filled = [[] for _ in range(bins)]
    for confidence, right in zip(confidences, rights):
        filled[min(int(confidence * bins), bins - 1)].append((confidence, right))
    return [
        {
            "items": len(items),
            "confidence": sum(confidence for confidence, _ in items) / len(items),
            "right": sum(right for _, right in items) / len(items),
        }
        for items in filled
        if items
    ]


def calibration_error(confidences, rights, bins=10):
    """The expected calibration error over bins of equal width; None of nothing."""
    table = reliability(confidences, rights, bins)
    total = sum(row["items"] for row in table)
    if not total:
        return None
    return sum(row["items"] * abs(row["confidence"] - row["right"]) for row in table) / total


def risk_coverage(confidences, rights):
    """(coverage, risk) for each answer kept, the most confident first.

    Answers of equal confidence are kept or dropped together: no order among them is earned.
    """
    ranked = sorted(zip(confidences, rights), key=lambda pair: -pair[0])
    curve, wrong = [], 0
    for kept, (confidence, right) in enumerate(ranked, 1):
        wrong += not right
        if kept == len(ranked) or ranked[kept][0] != confidence:
            curve.append((kept / len(ranked), wrong / kept))
    return curve


def aurc(confidences, rights):
    """The area under the risk-coverage curve: the mean risk over all coverages."""
    area, before = 0.0, 0.0
    for coverage, risk in risk_coverage(confidences, rights):
        area += (coverage - before) * risk
        before = coverage
    return area


def accuracy_at(confidences, rights, coverage):
    """The share right among the most confident answers that make up at least this coverage."""
    return next(
        (1 - risk for kept, risk in risk_coverage(confidences, rights) if kept >= coverage - 1e-9),
        None,
    )


def isotonic(confidences, rights, least=20):
    """Blocks [weight, mean confidence, share right] that never fall (pool adjacent violators).

    A block holds at least `least` answers: fewer would be a figure about those answers alone.
    """
    blocks = []
    for confidence, right in sorted(zip(confidences, rights)):
        blocks.append([1, confidence, float(right)])
        while len(blocks) > 1 and (
            blocks[-1][2] <= blocks[-2][2]
            or blocks[-2][0] < least
            or blocks[-1][1] == blocks[-2][1]
        ):
            _pool(blocks, len(blocks) - 2)
    if len(blocks) > 1 and blocks[-1][0] < least:
        _pool(blocks, len(blocks) - 2)
    return blocks


def calibration_points(confidences, rights, limit=24):
    """Points of a rising line from 0 to 1 that maps a confidence to the chance of being right.

    No point claims certainty: that chance stays as far from 0 and 1 as one more answer, right or
    wrong, could tell.
    """
    blocks = isotonic(confidences, rights)
    while len(blocks) > limit - 2:
        _pool(blocks, min(range(len(blocks) - 1), key=lambda i: _cost(blocks[i], blocks[i + 1])))
    nearest = 1 / (len(confidences) + 2)
    middle = [[x, min(max(y, nearest), 1 - nearest)] for _, x, y in blocks]
    points = [[0.0, middle[0][1]], *middle, [1.0, middle[-1][1]]]
    rounded = [[round(x, 6), round(y, 4)] for x, y in points]
    return [point for i, point in enumerate(rounded) if i == 0 or point[0] > rounded[i - 1][0]]


def calibrated(points, confidence):
    """The confidence on the line through the points."""
    right = bisect_right([x for x, _ in points], confidence)
    if right == 0:
        return points[0][1]
    if right == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (confidence - x0) / (x1 - x0)


def held_out(confidences, rights):
    """The confidences calibrated by points that never saw them: each half by the other half's."""
    halves = [calibration_points(confidences[i::2], rights[i::2]) for i in (0, 1)]
    return [calibrated(halves[1 - i % 2], value) for i, value in enumerate(confidences)]


def _pool(blocks, index):
    (n, x, y), (m, u, v) = blocks[index], blocks.pop(index + 1)
    blocks[index] = [n + m, (n * x + m * u) / (n + m), (n * y + m * v) / (n + m)]


def _cost(left, right):
    """How much squared error pooling two blocks adds."""
    return left[0] * right[0] / (left[0] + right[0]) * (left[2] - right[2]) ** 2
