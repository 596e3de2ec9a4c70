"""What schemathesis cannot know."""
