//! Estimators and training: gradient-boosted trees, logistic regression, neural models.
