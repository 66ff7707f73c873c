"""What scikit-learn's own classifiers get on the same split, to read a model's accuracy beside."""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.data.digits import PIXELS, digits
from workbench.statistics import Difference, Estimate, estimate_mean, paired_difference

LOGISTIC = "logistic regression on pixels"
NEAREST = "nearest training image"


class Baseline(NamedTuple):
    """A classifier trained on the part `train` of the digits.

    - `right`: for each image of the part `test`, whether it names the right digit (1 or 0)
    """

    name: str
    right: Float[np.ndarray, " image"]

    @property
    def accuracy(self) -> Estimate:
        """The share of test images that it gets right."""
        return estimate_mean(self.right)

    def against(self, right: Float[np.ndarray, " image"]) -> Difference:
        """The accuracy of a model minus its own, paired over the same images.

        Args:
            right: Whether the model got each test image right.
        """
        return paired_difference(self.right, right)


@cache
def baselines() -> tuple[Baseline, ...]:
    """Logistic regression, and the nearest image by Euclidean distance; both see the same images.

    Unlike the language model they are told which class each image has as the thing to learn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    train = digits("train")
    test = digits("test")
    classifiers = {
        LOGISTIC: LogisticRegression(max_iter=2000),
        NEAREST: KNeighborsClassifier(1),
    }
    fitted = []
    for name, classifier in classifiers.items():
        classifier.fit(train.images.reshape(-1, PIXELS) / 16, train.labels)
        right = classifier.predict(test.images.reshape(-1, PIXELS) / 16) == test.labels
        fitted.append(Baseline(name, right.astype(float)))
    return tuple(fitted)
