use kaizen_testkit::estimator::suite;
use kaizen_train::{GradientBoosting, LogisticRegression, formats};

#[test]
fn gradient_boosting_keeps_the_rules() {
    let settings = GradientBoosting { trees: 30, ..Default::default() };
    suite(&settings, &formats());
}

#[test]
fn gradient_boosting_on_drawn_rows_keeps_the_rules() {
    let settings = GradientBoosting { trees: 30, subsample: 0.4, ..Default::default() };
    suite(&settings, &formats());
    let settings = GradientBoosting { subsample: 0.8, ..settings };
    suite(&settings, &formats());
}

#[test]
fn logistic_regression_keeps_the_rules() {
    suite(&LogisticRegression::default(), &formats());
}
