"""What a sweep searches: settings with their values, resolved types, validation against the schema."""
