//! The index equals its oracle, and itself however the rows are cut.

use kaizen_data::point_in_time::Index;
use kaizen_testkit::point_in_time::oracle;
use proptest::prelude::*;

use crate::cases::{assert_same_bits, case};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_equals_the_oracle(case in case(40, 20, -12..30)) {
        let found = Index::new(&case.view, &case.source).unwrap().features(&case.spine, "at");
        let expected = oracle(&case.view, &case.source, &case.spine, "at").unwrap();
        assert_same_bits(&found.unwrap(), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// Enough rows that the parallel paths are taken.
    #[test]
    fn many_rows_equal_the_same_rows_one_by_one(case in case(9_000, 9_000, -12..30)) {
        let index = Index::new(&case.view, &case.source).unwrap();
        let all = index.features(&case.spine, "at").unwrap();
        for start in (0..case.spine.num_rows()).step_by(500) {
            let length = 500.min(case.spine.num_rows() - start);
            let part = index.features(&case.spine.slice(start, length), "at").unwrap();
            assert_same_bits(&all.slice(start, length), &part);
        }
        let narrow = case.spine.slice(0, case.spine.num_rows().min(40));
        let expected = oracle(&case.view, &case.source, &narrow, "at").unwrap();
        assert_same_bits(&index.features(&narrow, "at").unwrap(), &expected);
    }
}
