//! One server that speaks every host's contract, and the weighted router.
