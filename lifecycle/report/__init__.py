"""What is told of volumes and rules: documents for programs, diagrams for people."""
