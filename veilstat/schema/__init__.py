"""What the numbers are, publicly agreed before anything is computed: columns with bounds, and how values become integers."""
