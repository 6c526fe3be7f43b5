"""Layer 3: how parameters change, one learner a file, and the list of all learners."""
