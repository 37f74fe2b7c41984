"""What plugin authors and this project test with: fakes, contracts, a scripted model, pytest fixtures."""
