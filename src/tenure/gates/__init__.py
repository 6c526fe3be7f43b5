"""What a version must survive: exams, statistics and the verdict. Sees answers, never what made them."""
